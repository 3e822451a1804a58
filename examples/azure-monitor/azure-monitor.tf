# Azure Monitor to MUTT. An action group sets no header, so the key stands in the address: make one for it alone, and
# allow that: mutt keys make azure --format azure-monitor; mutt keys source azure --in-address

variable "mutt_key" {
  type      = string
  sensitive = true
}

resource "azurerm_monitor_action_group" "mutt" {
  name                = "mutt"
  short_name          = "mutt"
  resource_group_name = "ops"

  webhook_receiver {
    name                    = "mutt"
    service_uri             = "https://mutt.example.net/ingest/azure-monitor?key=${var.mutt_key}"
    use_common_alert_schema = true # without it MUTT refuses the alert
  }

  # Azure tries five times more within about a minute, and then calls nobody of the group for 15 minutes: a second way
  # for what must not be missed.
  email_receiver {
    name                    = "on-call"
    email_address           = "on-call@example.com"
    use_common_alert_schema = true
  }
}

resource "azurerm_monitor_metric_alert" "cpu" {
  name                = "web-1-cpu"
  resource_group_name = "ops"
  scopes              = ["/subscriptions/…/resourceGroups/ops/providers/Microsoft.Compute/virtualMachines/web-1"]
  severity            = 1
  auto_mitigate       = true # sends Resolved, which clears

  criteria {
    metric_namespace = "Microsoft.Compute/virtualMachines"
    metric_name      = "Percentage CPU"
    aggregation      = "Average"
    operator         = "GreaterThan"
    threshold        = 90
  }

  action {
    action_group_id = azurerm_monitor_action_group.mutt.id
  }
}
