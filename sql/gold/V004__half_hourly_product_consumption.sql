-- One row: a product name and half hour with at least one reading. kWh.
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
FROM mart.half_hourly_product_consumption;
