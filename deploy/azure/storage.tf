# The release. Everybody who reads or writes it does so with an identity: the account has no keys to give away.
resource "azurerm_storage_account" "this" {
  #checkov:skip=CKV2_AZURE_1: the key of the service encrypts a game that players download anyway
  #checkov:skip=CKV2_AZURE_33: whoever runs Terraform reaches it over the internet, with an identity
  #checkov:skip=CKV_AZURE_59: the same
  #checkov:skip=CKV_AZURE_33: there are no queues
  #checkov:skip=CKV_AZURE_206: a release can be made again from the export
  #checkov:skip=CKV2_AZURE_38: the same
  name                            = "${var.name}${random_id.storage.hex}"
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  https_traffic_only_enabled      = true
  min_tls_version                 = "TLS1_2"
  allow_nested_items_to_be_public = false
  shared_access_key_enabled       = false
  local_user_enabled              = false
  tags                            = local.tags
}

# Names of storage accounts are the world's.
resource "random_id" "storage" {
  byte_length = 4
}

resource "azurerm_storage_container" "releases" {
  #checkov:skip=CKV2_AZURE_21: reads are those of the machines at their first start
  name                  = "releases"
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

resource "azurerm_storage_blob" "release" {
  # Another release is another blob, so that machines that start meanwhile find the one they were told of.
  name                   = "${local.digest}.tar.gz"
  storage_account_name   = azurerm_storage_account.this.name
  storage_container_name = azurerm_storage_container.releases.name
  type                   = "Block"
  source                 = var.release

  depends_on = [azurerm_role_assignment.upload]
}

# The key of the game servers. Its value is put there by hand, so that it is in no state of Terraform.
resource "azurerm_key_vault" "this" {
  #checkov:skip=CKV_AZURE_109: whoever puts the key there reaches it over the internet, with an identity
  #checkov:skip=CKV_AZURE_189: the same
  #checkov:skip=CKV2_AZURE_32: the same
  name                       = "${var.name}${random_id.storage.hex}"
  resource_group_name        = azurerm_resource_group.this.name
  location                   = azurerm_resource_group.this.location
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "standard"
  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 7
  tags                       = local.tags
}
