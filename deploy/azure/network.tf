resource "azurerm_resource_group" "this" {
  name     = var.name
  location = var.location
  tags     = local.tags
}

resource "azurerm_virtual_network" "this" {
  name                = var.name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = ["10.84.0.0/16"]
  tags                = local.tags
}

resource "azurerm_subnet" "game_servers" {
  name                 = "game-servers"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = ["10.84.0.0/24"]
}

# Whatever is not named here is refused by Azure's own last rule. There is no rule for SSH: use `az vmss run-command`.
resource "azurerm_network_security_group" "game_servers" {
  name                = "${var.name}-game-servers"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_network_security_rule" "players" {
  for_each = local.player_rules

  name                        = each.key
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.game_servers.name
  priority                    = each.value.priority
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = each.value.protocol
  source_address_prefixes     = var.players
  # Players come from any port of theirs.
  source_port_range          = "*"
  destination_address_prefix = "*"
  destination_port_ranges    = each.value.ports
}

resource "azurerm_subnet_network_security_group_association" "game_servers" {
  subnet_id                 = azurerm_subnet.game_servers.id
  network_security_group_id = azurerm_network_security_group.game_servers.id
}
