# With `transit_key: pleiades`.
path "transit/datakey/plaintext/pleiades" {
  capabilities = ["update"]
}

path "transit/decrypt/pleiades" {
  capabilities = ["update"]
}
