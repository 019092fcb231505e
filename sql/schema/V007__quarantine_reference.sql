-- Rows of reference files that were left out, and one snapshot a date.

-- One row: a row of a reference file that broke a rule.
CREATE TABLE IF NOT EXISTS quarantine.reference (
  source_file STRING COMMENT 'File it stood in, path below the landing place',
  table_name STRING COMMENT 'agreement, product or meterpoint',
  row_number BIGINT COMMENT 'Its rowid; the place of the row, from 1, in a view or a table without',
  reason STRING COMMENT 'Rule that it broke, see docs/rules.md',
  detail STRING COMMENT 'What exactly was wrong, and where',
  row_json STRING COMMENT 'The row as the file has it, as a JSON object of column and value',
  load_id STRING COMMENT 'Load that left it out, see ops.loads',
  load_date DATE COMMENT 'UTC date of the load''s start'
) USING parquet PARTITIONED BY (load_date)
COMMENT 'Rejected rows of reference files, one row per rejected row of a file'
LOCATION '${warehouse}/quarantine/reference';

CREATE OR REPLACE VIEW quarantine.open_reference (
  source_file COMMENT 'File it stood in, path below the landing place',
  table_name COMMENT 'agreement, product or meterpoint',
  row_number COMMENT 'Its rowid; the place of the row, from 1, in a view or a table without',
  reason COMMENT 'Rule that it broke, see docs/rules.md',
  detail COMMENT 'What exactly was wrong, and where',
  row_json COMMENT 'The row as the file has it, as a JSON object of column and value',
  load_id COMMENT 'Load that left it out, see ops.loads',
  load_date COMMENT 'UTC date of the load''s start'
) COMMENT 'Rejected rows of the reference file that is shown, one row per row' AS
SELECT source_file, table_name, row_number, reason, detail, row_json, load_id, load_date
FROM quarantine.reference
WHERE load_id = (SELECT max(load_id) FROM silver.current_snapshot);

CREATE OR REPLACE VIEW silver.agreement_snapshots (
  agreement_id COMMENT 'Key within a date',
  agreement_valid_from COMMENT 'First local date on which it holds',
  agreement_valid_to COMMENT 'Local date on which it no longer holds, null if open-ended',
  product_id COMMENT 'Product that was agreed',
  meterpoint_id COMMENT 'Meterpoint that it supplies',
  account_id COMMENT 'Customer account',
  snapshot_date COMMENT 'Local date of the snapshot; of several of one date this is the last'
) COMMENT 'Agreements as each date''s last snapshot had them, one row per date and agreement' AS
SELECT history.agreement_id, history.agreement_valid_from, history.agreement_valid_to, history.product_id, history.meterpoint_id, history.account_id, history.snapshot_date
FROM silver.agreement_history AS history
JOIN (SELECT snapshot_date, max(load_id) AS load_id FROM silver.agreement_history GROUP BY snapshot_date) AS newest
  ON newest.snapshot_date = history.snapshot_date AND newest.load_id <=> history.load_id;

CREATE OR REPLACE VIEW silver.product_snapshots (
  product_id COMMENT 'Key within a date',
  display_name COMMENT 'Name shown to customers; several products may share one',
  is_variable COMMENT 'True if the price may change during the agreement',
  id COMMENT 'Number of the product in the source database',
  snapshot_date COMMENT 'Local date of the snapshot; of several of one date this is the last'
) COMMENT 'Products as each date''s last snapshot had them, one row per date and product' AS
SELECT history.product_id, history.display_name, history.is_variable, history.id, history.snapshot_date
FROM silver.product_history AS history
JOIN (SELECT snapshot_date, max(load_id) AS load_id FROM silver.product_history GROUP BY snapshot_date) AS newest
  ON newest.snapshot_date = history.snapshot_date AND newest.load_id <=> history.load_id;

CREATE OR REPLACE VIEW silver.meterpoint_snapshots (
  meterpoint_id COMMENT 'Key within a date',
  region COMMENT 'Region of the grid in which it lies',
  snapshot_date COMMENT 'Local date of the snapshot; of several of one date this is the last'
) COMMENT 'Meterpoints as each date''s last snapshot had them, one row per date and meterpoint' AS
SELECT history.meterpoint_id, history.region, history.snapshot_date
FROM silver.meterpoint_history AS history
JOIN (SELECT snapshot_date, max(load_id) AS load_id FROM silver.meterpoint_history GROUP BY snapshot_date) AS newest
  ON newest.snapshot_date = history.snapshot_date AND newest.load_id <=> history.load_id;

ALTER TABLE silver.agreement_history ALTER COLUMN load_id COMMENT 'Load that brought the snapshot; of several of one snapshot_date the greatest is the last: see silver.agreement_snapshots';
ALTER TABLE silver.product_history ALTER COLUMN load_id COMMENT 'Load that brought the snapshot; of several of one snapshot_date the greatest is the last: see silver.product_snapshots';
ALTER TABLE silver.meterpoint_history ALTER COLUMN load_id COMMENT 'Load that brought the snapshot; of several of one snapshot_date the greatest is the last: see silver.meterpoint_snapshots';
