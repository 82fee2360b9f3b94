"""What the outside world says, kept in RDS: DocDB records, metadata-service answers, Code Ocean and S3 indexes."""
