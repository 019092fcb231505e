-- One row: a product name and local date with at least one reading. kWh.
-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.

CREATE OR REPLACE VIEW gold.daily_product_consumption (
  product_display_name COMMENT 'Name of the product; several products may share one',
  date COMMENT 'Local date',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh COMMENT 'Energy used by them, kWh'
) COMMENT 'Consumption by product, one row per product name and date' AS
SELECT product_display_name, date, meterpoint_count, consumption_kwh
FROM mart.daily_product_consumption;
