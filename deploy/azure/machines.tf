locals {
  tags        = { backend-client-deployment = var.name }
  digest      = filesha256(var.release)
  query_ports = [for port in var.ports : 20000 + port]

  player_rules = merge(
    {
      games   = { priority = 100, protocol = "Udp", ports = [for port in var.ports : tostring(port)] }
      queries = { priority = 110, protocol = "Udp", ports = [for port in local.query_ports : tostring(port)] }
    },
    var.tcp ? { games-tcp = { priority = 120, protocol = "Tcp", ports = [for port in var.ports : tostring(port)] } } : {}
  )

  cloud_init = templatefile("${path.module}/cloud-init.yaml", {
    game_host   = filebase64("${path.module}/../cloud/game-host.py")
    backend_url = var.backend_url
    release_url = azurerm_storage_blob.release.url
    digest      = local.digest
    key_url     = "${azurerm_key_vault.this.vault_uri}secrets/server-key"
    ports       = join(" ", var.ports)
  })
}

resource "azurerm_orchestrated_virtual_machine_scale_set" "game_servers" {
  name                        = "${var.name}-game-servers"
  resource_group_name         = azurerm_resource_group.this.name
  location                    = azurerm_resource_group.this.location
  platform_fault_domain_count = 1
  instances                   = var.machines
  sku_name                    = var.machine_size
  priority                    = var.spot ? "Spot" : "Regular"
  eviction_policy             = var.spot ? "Delete" : null
  encryption_at_host_enabled  = var.encryption_at_host
  tags                        = local.tags

  # A machine that is deleted has ten minutes to end its game servers; game-host.py needs less and says so. Spot machines get
  # the event Preempt instead, 30 seconds ahead.
  dynamic "termination_notification" {
    for_each = var.spot ? [] : ["PT10M"]

    content {
      enabled = true
      timeout = termination_notification.value
    }
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.game_servers.id]
  }

  source_image_reference {
    publisher = "Debian"
    offer     = "debian-12"
    sku       = "12-gen2"
    version   = "latest"
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "StandardSSD_LRS"
  }

  os_profile {
    custom_data = base64encode(local.cloud_init)

    linux_configuration {
      computer_name_prefix            = var.name
      admin_username                  = "gameadmin"
      disable_password_authentication = true

      admin_ssh_key {
        username   = "gameadmin"
        public_key = var.admin_ssh_public_key
      }
    }
  }

  network_interface {
    name                      = "game"
    primary                   = true
    network_security_group_id = azurerm_network_security_group.game_servers.id

    ip_configuration {
      name      = "game"
      primary   = true
      subnet_id = azurerm_subnet.game_servers.id

      # One address per machine, mapped port by port: players are sent to the port that the server listens on.
      public_ip_address {
        name     = "game"
        sku_name = "Standard_Regional"
      }
    }
  }

  boot_diagnostics {}

  # The first start needs both.
  depends_on = [azurerm_role_assignment.release, azurerm_role_assignment.key]
}

output "key_vault" {
  description = "Where the key of the game servers belongs: az keyvault secret set --vault-name … --name server-key --file server.key"
  value       = azurerm_key_vault.this.name
}

output "scale_set" {
  value = azurerm_orchestrated_virtual_machine_scale_set.game_servers.name
}
