-- One row: a reading, with the agreement that held at its start, its product and its region. kWh.
-- An agreement holds on [valid_from, valid_to); where two hold, the one with the later valid_from, then the higher id.
-- Readings without an agreement are here too, with nulls. The region is that of the newest snapshot.

CREATE OR REPLACE VIEW gold.readings_enriched (
  meterpoint_id COMMENT 'Meterpoint that was read',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  consumption_kwh COMMENT 'Energy used in the half hour, kWh',
  region COMMENT 'Region of the grid, null if the meterpoint is unknown',
  agreement_id COMMENT 'Agreement that held, null if none did',
  account_id COMMENT 'Account of the agreement, null if none held',
  product_id COMMENT 'Product of the agreement, null if none held',
  product_display_name COMMENT 'Name of the product, null if no agreement held',
  is_variable COMMENT 'True if the product''s price may change, null if no agreement held',
  reading_quality COMMENT 'A: actual, E: estimated, or the sender''s own word; null if the file says nothing'
) COMMENT 'Readings with agreement, product and region, one row per meterpoint and half hour' AS
SELECT
  readings.meterpoint_id, readings.interval_start, readings.interval_start_utc, readings.date, readings.consumption_kwh,
  meterpoint.region,
  daily.agreement_id, daily.account_id, daily.product_id, daily.product_display_name, daily.is_variable,
  readings.reading_quality
FROM silver.readings
LEFT JOIN mart.daily_meterpoint_consumption AS daily
  ON daily.meterpoint_id = readings.meterpoint_id AND daily.date = readings.date
LEFT JOIN silver.meterpoint ON meterpoint.meterpoint_id = readings.meterpoint_id;
