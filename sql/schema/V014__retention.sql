-- What was kept for long enough, and is gone.

-- One row: a partition that was dropped because a setting LAKE_KEEP_… said so, or reports and logs that went.
CREATE TABLE IF NOT EXISTS ops.expired (
  table_name STRING COMMENT 'Table, schema.table; reports or logs: files of these',
  partition_value STRING COMMENT 'Value of the table''s partition column; of reports and logs the newest that went',
  folder STRING COMMENT 'Folder of its files, which goes a day later (LAKE_RETENTION_HOURS); null for reports and logs',
  rows_removed BIGINT COMMENT 'Rows of the partition; of reports and logs files',
  setting STRING COMMENT 'Setting by which it went',
  kept STRING COMMENT 'Value of the setting',
  load_id STRING COMMENT 'Load that did it, see ops.loads',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'What was kept for long enough and is gone, one row per partition'
LOCATION '${warehouse}/ops/expired';
