# What check_azure.py has to find: the mistakes of a usual recipe.
resource "azurerm_network_security_rule" "game" {
  name                        = "game"
  priority                    = 100
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Udp"
  source_port_range           = "7777-7778"
  destination_port_range      = "7777-7778"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
  resource_group_name         = "game"
  network_security_group_name = "game"
}

resource "azurerm_network_security_rule" "ssh" {
  name                        = "ssh"
  priority                    = 110
  direction                   = "Inbound"
  access                      = "Allow"
  protocol                    = "Tcp"
  source_port_range           = "*"
  destination_port_range      = "22"
  source_address_prefix       = "*"
  destination_address_prefix  = "*"
  resource_group_name         = "game"
  network_security_group_name = "game"
}

resource "azurerm_linux_virtual_machine" "game" {
  name                            = "game"
  admin_username                  = "gameadmin"
  admin_password                  = "choose-a-password"
  disable_password_authentication = false

  provisioner "remote-exec" {
    inline = ["curl '${data.azurerm_storage_account_sas.game.sas}' -o Game", "./Game --headless"]
  }
}
