# Amazon SNS to MUTT, and a CloudWatch alarm on it. The key: mutt keys make aws --format sns
# The key is Basic's password here, so it stands in no log: SNS shows it when MUTT asks for it. MUTT confirms the
# subscription by itself.

variable "mutt_key" {
  type      = string
  sensitive = true
}

resource "aws_sns_topic" "alarms" {
  name              = "alarms"
  signature_version = 2 # SHA-256
}

resource "aws_sns_topic_subscription" "mutt" {
  topic_arn              = aws_sns_topic.alarms.arn
  protocol               = "https"
  endpoint               = "https://mutt:${var.mutt_key}@mutt.example.net/ingest/sns"
  endpoint_auto_confirms = true

  # By itself SNS tries three times more within a minute, then the message is gone. This is about 52 minutes of the
  # hour that it allows; what an outage longer than that leaves over is kept in a queue for 14 days.
  delivery_policy = jsonencode({
    healthyRetryPolicy = {
      numRetries     = 60, numNoDelayRetries = 0, numMinDelayRetries = 3, numMaxDelayRetries = 47,
      minDelayTarget = 5, maxDelayTarget = 60, backoffFunction = "exponential"
    }
  })
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.undelivered.arn })
}

resource "aws_sqs_queue" "undelivered" {
  name                      = "alarms-undelivered"
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow", Principal = { Service = "sns.amazonaws.com" }, Action = "sqs:SendMessage",
      Resource  = aws_sqs_queue.undelivered.arn,
      Condition = { ArnEquals = { "aws:SourceArn" = aws_sns_topic.alarms.arn } }
    }]
  })
}

resource "aws_cloudwatch_metric_alarm" "cpu" {
  alarm_name          = "web-1-cpu"
  namespace           = "AWS/EC2"
  metric_name         = "CPUUtilization"
  dimensions          = { InstanceId = "i-12345678901234567" } # becomes the host
  statistic           = "Average"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 90
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn] # without it nothing is ever cleared
}
