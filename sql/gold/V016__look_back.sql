-- What was known at a moment, and what loads changed of what was known.

-- One row: a load and a date that had readings before, of which it added, changed or removed some. kWh.
CREATE OR REPLACE VIEW gold.restatements (
  load_id COMMENT 'Load that restated the date, see gold.load_history',
  restated_at COMMENT 'When the load ended, UTC',
  kind COMMENT 'load; retract, reload, rebuild: a person asked for it; rollback',
  date COMMENT 'Local date of the readings',
  readings_added COMMENT 'Half hours of meterpoints that had no reading before',
  readings_changed COMMENT 'Half hours of meterpoints with another consumption or quality than before',
  readings_removed COMMENT 'Half hours of meterpoints that have no reading any more',
  meterpoint_count COMMENT 'Meterpoints concerned; null for loads of older versions',
  kwh_before COMMENT 'Energy of the date before, kWh; null for loads of older versions',
  kwh_after COMMENT 'Energy of the date since then, kWh; null for loads of older versions'
) COMMENT 'What loads changed of dates that had readings before, one row per load and date' AS
SELECT
  publications.load_id, loads.finished_at, coalesce(loads.kind, loads.status) AS kind,
  CAST(publications.partition_value AS DATE) AS date,
  publications.readings_added, publications.readings_changed, publications.readings_removed,
  publications.meterpoints, publications.kwh_before, publications.kwh_after
FROM ops.publications
JOIN ops.loads ON loads.load_id = publications.load_id
WHERE publications.table_name = 'silver.readings'
  AND publications.readings_added + publications.readings_changed + publications.readings_removed > 0;

-- gold.readings_enriched at a moment: with the readings, agreements, products and meterpoints that were known by then.
--   SELECT * FROM gold.readings_enriched_as_of(TIMESTAMP '2021-11-02 09:00:00') WHERE date = DATE '2021-10-31'
-- A snapshot that was rolled back, or replaced by two others of its date, is not kept: the one before it stands for it.
CREATE OR REPLACE FUNCTION gold.readings_enriched_as_of(moment TIMESTAMP COMMENT 'Moment, UTC')
RETURNS TABLE (
  meterpoint_id STRING COMMENT 'Meterpoint that was read',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  date DATE COMMENT 'Local date of interval_start',
  consumption_kwh DECIMAL(9,6) COMMENT 'Energy used in the half hour, kWh',
  region STRING COMMENT 'Region of the grid, null if the meterpoint was unknown',
  agreement_id BIGINT COMMENT 'Agreement that held, null if none did',
  account_id STRING COMMENT 'Account of the agreement, null if none held',
  product_id STRING COMMENT 'Product of the agreement, null if none held',
  product_display_name STRING COMMENT 'Name of the product, null if no agreement held',
  is_variable BOOLEAN COMMENT 'True if the product''s price may change, null if no agreement held',
  reading_quality STRING COMMENT 'A: actual, E: estimated, or the sender''s own word; null if the file says nothing'
)
COMMENT 'Readings with agreement, product and region as they were known at a moment, one row per meterpoint and half hour'
RETURN
WITH ended AS (SELECT max(load_id) AS load_id FROM ops.loads WHERE finished_at <= moment),
shown AS (
  SELECT max(struct(coalesce(history.load_id, '') AS load_id, history.snapshot_date)) AS snapshot
  FROM (SELECT DISTINCT load_id, snapshot_date FROM silver.product_history) AS history
  CROSS JOIN ended
  WHERE coalesce(history.load_id, '') <= ended.load_id
),
readings AS (SELECT * FROM silver.readings_as_of(moment)),
held AS (
  SELECT
    days.date, days.meterpoint_id, agreement.agreement_id, agreement.account_id, agreement.product_id,
    row_number() OVER (
      PARTITION BY days.date, days.meterpoint_id ORDER BY agreement.agreement_valid_from DESC, agreement.agreement_id DESC
    ) AS newest
  FROM (SELECT DISTINCT date, meterpoint_id FROM readings) AS days
  JOIN silver.agreement_history AS agreement
    ON agreement.meterpoint_id = days.meterpoint_id AND agreement.agreement_valid_from <= days.date
    AND (agreement.agreement_valid_to IS NULL OR days.date < agreement.agreement_valid_to)
  JOIN shown
    ON agreement.snapshot_date = shown.snapshot.snapshot_date AND coalesce(agreement.load_id, '') = shown.snapshot.load_id
),
product AS (
  SELECT product_history.* FROM silver.product_history
  JOIN shown ON product_history.snapshot_date = shown.snapshot.snapshot_date
    AND coalesce(product_history.load_id, '') = shown.snapshot.load_id
),
meterpoint AS (
  SELECT meterpoint_history.* FROM silver.meterpoint_history
  JOIN shown ON meterpoint_history.snapshot_date = shown.snapshot.snapshot_date
    AND coalesce(meterpoint_history.load_id, '') = shown.snapshot.load_id
)
SELECT
  readings.meterpoint_id, readings.interval_start, readings.interval_start_utc, readings.date, readings.consumption_kwh,
  meterpoint.region,
  held.agreement_id, held.account_id, held.product_id,
  coalesce(product.display_name, held.product_id), product.is_variable,
  readings.reading_quality
FROM readings
LEFT JOIN held ON held.newest = 1 AND held.date = readings.date AND held.meterpoint_id = readings.meterpoint_id
LEFT JOIN product ON product.product_id = held.product_id
LEFT JOIN meterpoint ON meterpoint.meterpoint_id = readings.meterpoint_id;

-- gold.half_hourly_consumption at a moment. kWh.
CREATE OR REPLACE FUNCTION gold.half_hourly_consumption_as_of(moment TIMESTAMP COMMENT 'Moment, UTC')
RETURNS TABLE (
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  date DATE COMMENT 'Local date of interval_start',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by all of them, kWh'
)
COMMENT 'Consumption of all meterpoints as it was known at a moment, one row per half hour'
RETURN
SELECT interval_start, interval_start_utc, date, count(*), CAST(sum(consumption_kwh) AS DECIMAL(18,6))
FROM silver.readings_as_of(moment)
GROUP BY interval_start, interval_start_utc, date;

-- gold.daily_product_consumption at a moment. kWh.
CREATE OR REPLACE FUNCTION gold.daily_product_consumption_as_of(moment TIMESTAMP COMMENT 'Moment, UTC')
RETURNS TABLE (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  date DATE COMMENT 'Local date',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh'
)
COMMENT 'Consumption by product as it was known at a moment, one row per product name and date'
RETURN
SELECT product_display_name, date, count(DISTINCT meterpoint_id), CAST(sum(consumption_kwh) AS DECIMAL(18,6))
FROM gold.readings_enriched_as_of(moment)
WHERE agreement_id IS NOT NULL
GROUP BY product_display_name, date;

-- gold.half_hourly_product_consumption at a moment. kWh.
CREATE OR REPLACE FUNCTION gold.half_hourly_product_consumption_as_of(moment TIMESTAMP COMMENT 'Moment, UTC')
RETURNS TABLE (
  product_display_name STRING COMMENT 'Name of the product; several products may share one',
  interval_start TIMESTAMP COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc TIMESTAMP COMMENT 'Start of the half hour, UTC',
  date DATE COMMENT 'Local date of interval_start',
  meterpoint_count BIGINT COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh DECIMAL(18,6) COMMENT 'Energy used by them, kWh',
  average_kwh DECIMAL(18,6) COMMENT 'Energy used by a meterpoint on average, kWh'
)
COMMENT 'Consumption by product as it was known at a moment, one row per product name and half hour'
RETURN
SELECT
  product_display_name, interval_start, interval_start_utc, date, count(*), CAST(sum(consumption_kwh) AS DECIMAL(18,6)),
  CAST(CAST(sum(consumption_kwh) AS DECIMAL(18,6)) / count(*) AS DECIMAL(18,6))
FROM gold.readings_enriched_as_of(moment)
WHERE agreement_id IS NOT NULL
GROUP BY product_display_name, interval_start, interval_start_utc, date;
