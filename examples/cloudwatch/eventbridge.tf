# CloudWatch's alarms to MUTT by EventBridge, without SNS. It sends a header, so the key stands in no address.
# The key: mutt keys make aws-events --format cloudwatch

variable "mutt_key" {
  type      = string
  sensitive = true
}

resource "aws_cloudwatch_event_connection" "mutt" {
  name               = "mutt"
  authorization_type = "API_KEY"
  auth_parameters {
    api_key {
      key   = "X-API-KEY"
      value = var.mutt_key
    }
  }
}

resource "aws_cloudwatch_event_api_destination" "mutt" {
  name                             = "mutt"
  connection_arn                   = aws_cloudwatch_event_connection.mutt.arn
  invocation_endpoint              = "https://mutt.example.net/ingest/cloudwatch"
  http_method                      = "POST"
  invocation_rate_limit_per_second = 50
}

resource "aws_cloudwatch_event_rule" "alarms" {
  name = "alarms-to-mutt"
  event_pattern = jsonencode({
    source      = ["aws.cloudwatch"]
    detail-type = ["CloudWatch Alarm State Change", "CloudWatch Alarm Contributor State Change"]
  })
}

resource "aws_iam_role" "events" {
  name = "alarms-to-mutt"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "events.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "events" {
  role = aws_iam_role.events.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow", Action = "events:InvokeApiDestination",
      Resource = aws_cloudwatch_event_api_destination.mutt.arn
    }]
  })
}

resource "aws_cloudwatch_event_target" "mutt" {
  rule     = aws_cloudwatch_event_rule.alarms.name
  arn      = aws_cloudwatch_event_api_destination.mutt.arn
  role_arn = aws_iam_role.events.arn

  # As long and as often as EventBridge can: a day. What is left over then is kept for 14.
  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
  dead_letter_config {
    arn = aws_sqs_queue.undelivered.arn
  }
}

resource "aws_sqs_queue" "undelivered" {
  name                      = "alarms-to-mutt-undelivered"
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow", Principal = { Service = "events.amazonaws.com" }, Action = "sqs:SendMessage",
      Resource  = aws_sqs_queue.undelivered.arn,
      Condition = { ArnEquals = { "aws:SourceArn" = aws_cloudwatch_event_rule.alarms.arn } }
    }]
  })
}
