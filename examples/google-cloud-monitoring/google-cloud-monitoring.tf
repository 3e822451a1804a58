# Google Cloud Monitoring to MUTT, in two ways. The key: mutt keys make google --format google-cloud-monitoring

variable "mutt_key" {
  type      = string
  sensitive = true
}

variable "project_number" {
  type = string
}

# 1. A webhook: two minutes to set up. Google promises no second try.
resource "google_monitoring_notification_channel" "webhook" {
  display_name = "MUTT"
  type         = "webhook_basicauth"
  labels = {
    url      = "https://mutt.example.net/ingest/google-cloud-monitoring"
    username = "mutt"
  }
  sensitive_labels {
    password = var.mutt_key
  }
}

# 2. Pub/Sub, for what must not be missed: it tries again for 31 days. It sets no header of ours, so the key stands in
# the address: mutt keys source google --in-address
resource "google_pubsub_topic" "incidents" {
  name = "incidents"
}

resource "google_pubsub_topic_iam_member" "monitoring" {
  topic  = google_pubsub_topic.incidents.name
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:service-${var.project_number}@gcp-sa-monitoring-notification.iam.gserviceaccount.com"
}

resource "google_monitoring_notification_channel" "pubsub" {
  display_name = "MUTT by Pub/Sub"
  type         = "pubsub"
  labels       = { topic = google_pubsub_topic.incidents.id }
}

resource "google_pubsub_subscription" "mutt" {
  name                       = "mutt"
  topic                      = google_pubsub_topic.incidents.id
  ack_deadline_seconds       = 30
  message_retention_duration = "2678400s"

  push_config {
    push_endpoint = "https://mutt.example.net/ingest/google-cloud-monitoring?key=${var.mutt_key}"
    no_wrapper {
      write_metadata = true # the message's id, by which MUTT knows what is delivered again
    }
  }
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
  expiration_policy {
    ttl = "" # never, however quiet it is
  }
}
