-- The same views as before, of marts by year.

CREATE OR REPLACE VIEW gold.half_hourly_consumption (
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh COMMENT 'Energy used by all of them, kWh'
) COMMENT 'Consumption of all meterpoints, one row per half hour' AS
SELECT interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh
FROM mart.half_hourly;

-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.
CREATE OR REPLACE VIEW gold.daily_product_consumption (
  product_display_name COMMENT 'Name of the product; several products may share one',
  date COMMENT 'Local date',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh COMMENT 'Energy used by them, kWh'
) COMMENT 'Consumption by product, one row per product name and date' AS
SELECT product_display_name, date, meterpoint_count, consumption_kwh
FROM mart.daily_by_product;

-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.
CREATE OR REPLACE VIEW gold.half_hourly_product_consumption (
  product_display_name COMMENT 'Name of the product; several products may share one',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh COMMENT 'Energy used by them, kWh',
  average_kwh COMMENT 'Energy used by a meterpoint on average, kWh'
) COMMENT 'Consumption by product, one row per product name and half hour' AS
SELECT product_display_name, interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh, average_kwh
FROM mart.half_hourly_by_product;

CREATE OR REPLACE VIEW gold.data_freshness (
  last_reading_date COMMENT 'Newest local date with readings; later ones than today are a fault of a clock, and do not count',
  last_reading_utc COMMENT 'Start of the newest half hour with readings, UTC; as above',
  snapshot_date COMMENT 'Local date of the reference snapshot in use',
  last_load_id COMMENT 'Newest load that is in effect and changed a table',
  last_load_finished_at COMMENT 'When it ended, UTC',
  publishing_load_id COMMENT 'Load that is switching tables now, or was killed while it did: readings and marts may be of different loads; null if all agree'
) COMMENT 'How new the published data is, one row' AS
SELECT
  newest.date, newest.interval_start_utc,
  snapshot.snapshot_date,
  load.load_id, load.finished_at,
  publishing.load_id
FROM (
  SELECT max(date) AS date, max(interval_start_utc) AS interval_start_utc FROM mart.half_hourly
  WHERE interval_start_utc <= current_timestamp()
) AS newest
CROSS JOIN (SELECT max(snapshot_date) AS snapshot_date FROM silver.current_snapshot) AS snapshot
CROSS JOIN (
  SELECT max(load_id) AS load_id, max_by(finished_at, load_id) AS finished_at
  FROM ops.loads
  WHERE status = 'published' AND (dates_published > 0 OR mart_dates_published > 0 OR snapshot_date IS NOT NULL)
    AND load_id NOT IN (SELECT load_id FROM ops.rolled_back_loads)
) AS load
CROSS JOIN (
  SELECT max(load_id) AS load_id FROM ops.publishing WHERE load_id NOT IN (SELECT load_id FROM ops.loads)
) AS publishing;

-- Their content was copied before (jobs/upgrade.py); their files stay below the warehouse, and nothing reads them.
DROP TABLE IF EXISTS mart.half_hourly_consumption;
DROP TABLE IF EXISTS mart.half_hourly_product_consumption;
DROP TABLE IF EXISTS mart.daily_product_consumption;
