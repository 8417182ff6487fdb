# Records and what the gateway itself keeps.
path "secret/data/pleiades/*" {
  capabilities = ["create", "read", "update"]
}

# Listing, hints, and removal with all versions.
path "secret/metadata/pleiades/*" {
  capabilities = ["list", "read", "patch", "delete"]
}
