-- Pre-built tables behind the gold views, rebuilt for exactly the dates that a load changed.
-- kWh are DECIMAL: sums are exact and do not depend on the order of rows.

CREATE SCHEMA IF NOT EXISTS mart
COMMENT 'Pre-built tables behind the gold views'
LOCATION '${warehouse}/mart';

-- One row: a meterpoint's local date with at least one reading, and the agreement that held on it.
CREATE TABLE IF NOT EXISTS mart.daily_meterpoint_consumption (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  agreement_id BIGINT COMMENT 'Agreement that held on the date, null if none did; of several, that with the latest agreement_valid_from, then the highest agreement_id',
  product_id STRING COMMENT 'Product of the agreement, null if none held',
  product_display_name STRING COMMENT 'Name of the product, null if no agreement held',
  is_variable BOOLEAN COMMENT 'True if the product''s price may change, null if no agreement held',
  account_id STRING COMMENT 'Account of the agreement, null if none held',
  reading_count INT COMMENT 'Half hours with a reading; a full date has 48, in March 46, in October 50',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used on the date, kWh',
  date DATE COMMENT 'Local date'
) USING parquet PARTITIONED BY (date)
COMMENT 'Consumption and agreement, one row per meterpoint and date'
LOCATION '${warehouse}/mart/daily_meterpoint_consumption';

-- One row: a half hour in which at least one meterpoint was read, with agreement or not.
CREATE TABLE IF NOT EXISTS mart.half_hourly_consumption (
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by all of them, kWh',
  date DATE COMMENT 'Local date of interval_start'
) USING parquet PARTITIONED BY (date)
COMMENT 'Consumption of all meterpoints, one row per half hour'
LOCATION '${warehouse}/mart/half_hourly_consumption';

-- One row: a product's half hour in which at least one of its meterpoints was read.
CREATE TABLE IF NOT EXISTS mart.half_hourly_product_consumption (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh',
  average_kwh DECIMAL(18,6) COMMENT 'consumption_kwh by meterpoint_count, kWh, rounded half up',
  date DATE COMMENT 'Local date of interval_start'
) USING parquet PARTITIONED BY (date)
COMMENT 'Consumption by product, one row per product name and half hour'
LOCATION '${warehouse}/mart/half_hourly_product_consumption';

-- One row: a product's local date on which at least one of its meterpoints was read.
CREATE TABLE IF NOT EXISTS mart.daily_product_consumption (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh',
  date DATE COMMENT 'Local date'
) USING parquet PARTITIONED BY (date)
COMMENT 'Consumption by product, one row per product name and date'
LOCATION '${warehouse}/mart/daily_product_consumption';
