-- Two snapshots of one date stand side by side until the pointer moves: readers never see parts of both.

ALTER TABLE silver.agreement_history ADD COLUMNS (load_id STRING COMMENT 'Load that brought the snapshot, see ops.loads');
ALTER TABLE silver.product_history ADD COLUMNS (load_id STRING COMMENT 'Load that brought the snapshot, see ops.loads');
ALTER TABLE silver.meterpoint_history ADD COLUMNS (load_id STRING COMMENT 'Load that brought the snapshot, see ops.loads');

CREATE OR REPLACE VIEW silver.agreement (
  agreement_id COMMENT 'Key',
  agreement_valid_from COMMENT 'First local date on which it holds',
  agreement_valid_to COMMENT 'Local date on which it no longer holds, null if open-ended; equal to agreement_valid_from if cancelled before it began',
  product_id COMMENT 'Product that was agreed',
  meterpoint_id COMMENT 'Meterpoint that it supplies',
  account_id COMMENT 'Customer account',
  snapshot_date COMMENT 'Local date of the snapshot'
) COMMENT 'Agreements of the newest snapshot, one row per agreement' AS
SELECT agreement_id, agreement_valid_from, agreement_valid_to, product_id, meterpoint_id, account_id, snapshot_date
FROM silver.agreement_history
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot)
  AND (load_id IS NULL OR load_id = (SELECT max(load_id) FROM silver.current_snapshot));

CREATE OR REPLACE VIEW silver.product (
  product_id COMMENT 'Key',
  display_name COMMENT 'Name shown to customers; several products may share one',
  is_variable COMMENT 'True if the price may change during the agreement',
  id COMMENT 'Number of the product in the source database',
  snapshot_date COMMENT 'Local date of the snapshot'
) COMMENT 'Products of the newest snapshot, one row per product' AS
SELECT product_id, display_name, is_variable, id, snapshot_date
FROM silver.product_history
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot)
  AND (load_id IS NULL OR load_id = (SELECT max(load_id) FROM silver.current_snapshot));

CREATE OR REPLACE VIEW silver.meterpoint (
  meterpoint_id COMMENT 'Key',
  region COMMENT 'Region of the grid in which it lies',
  snapshot_date COMMENT 'Local date of the snapshot'
) COMMENT 'Meterpoints of the newest snapshot, one row per meterpoint' AS
SELECT meterpoint_id, region, snapshot_date
FROM silver.meterpoint_history
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot)
  AND (load_id IS NULL OR load_id = (SELECT max(load_id) FROM silver.current_snapshot));
