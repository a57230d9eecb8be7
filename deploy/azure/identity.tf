data "azurerm_client_config" "current" {}

# What the machines are. They may read the release and the key, and nothing else.
resource "azurerm_user_assigned_identity" "game_servers" {
  name                = "${var.name}-game-servers"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "release" {
  scope                = azurerm_storage_container.releases.id
  role_definition_name = "Storage Blob Data Reader"
  principal_id         = azurerm_user_assigned_identity.game_servers.principal_id
}

resource "azurerm_role_assignment" "key" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.game_servers.principal_id
}

# Whoever runs Terraform uploads the release and puts the key into the vault.
resource "azurerm_role_assignment" "upload" {
  scope                = azurerm_storage_container.releases.id
  role_definition_name = "Storage Blob Data Contributor"
  principal_id         = data.azurerm_client_config.current.object_id
}

resource "azurerm_role_assignment" "put_key" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = data.azurerm_client_config.current.object_id
}
