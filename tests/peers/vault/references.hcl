# For `${vault:team/...}` in descriptors, beside `references.vault: ["team/*"]` of the settings.
path "secret/data/team/*" {
  capabilities = ["read"]
}
