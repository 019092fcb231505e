-- Clean, typed input: one row per key. Readings by local date, reference data by snapshot.

CREATE SCHEMA IF NOT EXISTS silver
COMMENT 'Clean, typed input data: half-hourly readings and reference snapshots'
LOCATION '${warehouse}/silver';

-- One row: the energy that one meterpoint used in one half hour. Key: meterpoint_id, interval_start_utc.
CREATE TABLE IF NOT EXISTS silver.readings (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London); in October 01:00 and 01:30 occur twice',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC; with meterpoint_id the key',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour, kWh',
  source_file STRING COMMENT 'File it came from, path below the landing place',
  load_id STRING COMMENT 'Load that brought it, see ops.loads',
  date DATE COMMENT 'Local date of interval_start'
) USING parquet PARTITIONED BY (date)
COMMENT 'Half-hourly consumption, one row per meterpoint and half hour'
LOCATION '${warehouse}/silver/readings';

-- One row: an agreement as a snapshot of the source database had it. Key: snapshot_date, agreement_id.
CREATE TABLE IF NOT EXISTS silver.agreement_history (
  agreement_id BIGINT COMMENT 'Key within a snapshot',
  agreement_valid_from DATE COMMENT 'First local date on which it holds',
  agreement_valid_to DATE COMMENT 'Local date on which it no longer holds, null if open-ended; equal to agreement_valid_from if cancelled before it began',
  product_id STRING COMMENT 'Product that was agreed',
  meterpoint_id STRING COMMENT 'Meterpoint that it supplies',
  account_id STRING COMMENT 'Customer account',
  snapshot_date DATE COMMENT 'Local date of the snapshot'
) USING parquet PARTITIONED BY (snapshot_date)
COMMENT 'Agreements by snapshot, one row per snapshot and agreement'
LOCATION '${warehouse}/silver/agreement_history';

-- One row: a product as a snapshot of the source database had it. Key: snapshot_date, product_id.
CREATE TABLE IF NOT EXISTS silver.product_history (
  product_id STRING COMMENT 'Key within a snapshot',
  display_name STRING COMMENT 'Name shown to customers; several products may share one',
  is_variable BOOLEAN COMMENT 'True if the price may change during the agreement',
  id BIGINT COMMENT 'Number of the product in the source database',
  snapshot_date DATE COMMENT 'Local date of the snapshot'
) USING parquet PARTITIONED BY (snapshot_date)
COMMENT 'Products by snapshot, one row per snapshot and product'
LOCATION '${warehouse}/silver/product_history';

-- One row: a meterpoint as a snapshot of the source database had it. Key: snapshot_date, meterpoint_id.
CREATE TABLE IF NOT EXISTS silver.meterpoint_history (
  meterpoint_id STRING COMMENT 'Key within a snapshot',
  region STRING COMMENT 'Region of the grid in which it lies',
  snapshot_date DATE COMMENT 'Local date of the snapshot'
) USING parquet PARTITIONED BY (snapshot_date)
COMMENT 'Meterpoints by snapshot, one row per snapshot and meterpoint'
LOCATION '${warehouse}/silver/meterpoint_history';

-- At most one row: which snapshot the views below show. One switch moves the three of them together.
CREATE TABLE IF NOT EXISTS silver.current_snapshot (
  snapshot_date DATE COMMENT 'Snapshot that silver.agreement, silver.product and silver.meterpoint show',
  load_id STRING COMMENT 'Load that brought it, see ops.loads',
  kind STRING COMMENT 'Always reference; tables are published by partition, so there is one'
) USING parquet PARTITIONED BY (kind)
COMMENT 'The newest reference snapshot, one row'
LOCATION '${warehouse}/silver/current_snapshot';

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
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot);

CREATE OR REPLACE VIEW silver.product (
  product_id COMMENT 'Key',
  display_name COMMENT 'Name shown to customers; several products may share one',
  is_variable COMMENT 'True if the price may change during the agreement',
  id COMMENT 'Number of the product in the source database',
  snapshot_date COMMENT 'Local date of the snapshot'
) COMMENT 'Products of the newest snapshot, one row per product' AS
SELECT product_id, display_name, is_variable, id, snapshot_date
FROM silver.product_history
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot);

CREATE OR REPLACE VIEW silver.meterpoint (
  meterpoint_id COMMENT 'Key',
  region COMMENT 'Region of the grid in which it lies',
  snapshot_date COMMENT 'Local date of the snapshot'
) COMMENT 'Meterpoints of the newest snapshot, one row per meterpoint' AS
SELECT meterpoint_id, region, snapshot_date
FROM silver.meterpoint_history
WHERE snapshot_date = (SELECT max(snapshot_date) FROM silver.current_snapshot);
