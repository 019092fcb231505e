-- One row: a meterpoint and local date with readings and without an agreement. kWh.
-- On every date: half_hourly_consumption = daily_product_consumption + readings_without_agreement.

CREATE OR REPLACE VIEW gold.readings_without_agreement (
  meterpoint_id COMMENT 'Meterpoint that was read',
  date COMMENT 'Local date',
  reading_count COMMENT 'Half hours with a reading',
  consumption_kwh COMMENT 'Energy used on the date, kWh'
) COMMENT 'Consumption that no product accounts for, one row per meterpoint and date' AS
SELECT meterpoint_id, date, reading_count, consumption_kwh
FROM mart.daily_meterpoint_consumption
WHERE agreement_id IS NULL;
