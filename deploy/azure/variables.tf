variable "subscription_id" {
  type        = string
  description = "Id of the subscription"
}

variable "name" {
  type        = string
  description = "Name of everything that is made, and its tag"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{2,11}$", var.name))
    error_message = "3 to 12 small letters and digits, because the names of storage accounts allow no others."
  }
}

variable "location" {
  type    = string
  default = "westeurope"
}

variable "release" {
  type        = string
  description = "Archive that deploy/cloud/release.py has made of the export"
}

variable "backend_url" {
  type        = string
  description = "URL of the backend"

  validation {
    condition     = can(regex("^https://[^'\\s]+$", var.backend_url))
    error_message = "The addon sends keys and tokens to other machines by https:// only."
  }
}

variable "admin_ssh_public_key" {
  type        = string
  description = "Azure wants a key or a password for each machine. No port is open for it"
}

variable "machines" {
  type        = number
  description = "Number of machines. 0 until the key of the game servers is in the Key Vault"
  default     = 0
}

variable "machine_size" {
  type    = string
  default = "Standard_F2as_v6"
}

variable "ports" {
  type        = list(number)
  description = "One game server per UDP port of four digits. The query port is that of the game with a 2 before it"
  default     = [7777, 7778]

  validation {
    condition     = alltrue([for port in var.ports : port >= 1024 && port <= 9999])
    error_message = "Ports from 1024 to 9999."
  }
}

variable "tcp" {
  type        = bool
  description = "Opens the ports of the games for TCP, too: only for WebSocketMultiplayerPeer"
  default     = false
}

variable "players" {
  type        = list(string)
  description = "Networks from which players come"
  default     = ["0.0.0.0/0"]
}

variable "spot" {
  type        = bool
  description = "Cheaper machines that are taken away with 30 seconds' notice"
  default     = false
}

variable "encryption_at_host" {
  type        = bool
  description = "Needs the feature EncryptionAtHost of the subscription: az feature register --namespace Microsoft.Compute --name EncryptionAtHost"
  default     = true
}
