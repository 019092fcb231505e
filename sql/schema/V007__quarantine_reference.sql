CREATE TABLE IF NOT EXISTS quarantine.reference (
  source_file STRING, table_name STRING, row_number BIGINT, reason STRING, detail STRING, row_json STRING, load_id STRING, load_date DATE
) USING parquet PARTITIONED BY (load_date) LOCATION '${warehouse}/quarantine/reference';
