-- Consumption by time-of-use period: joined when it is read, so that new periods hold at once for all dates. The local clock
-- decides: in March the hour from 01:00 is in no period, in October it is there twice.
-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.

-- One row: a scheme's period, a local date and a product.
-- SELECT period, sum(consumption_kwh) AS kwh FROM gold.period_consumption
-- WHERE scheme = 'Economy 7' AND date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31' GROUP BY period
CREATE OR REPLACE VIEW gold.period_consumption (
  scheme COMMENT 'Name of the scheme, see silver.time_of_use_periods',
  period COMMENT 'Name of the period',
  date COMMENT 'Local date',
  product_display_name COMMENT 'Name of the product; several products may share one',
  half_hours COMMENT 'Half hours of the period on dates on which the product has an agreement and anybody was read; on dates that an older version built those with a reading',
  consumption_kwh COMMENT 'Energy used in them, kWh; null if none was read',
  expected_readings COMMENT 'Half hours of all meterpoints with an agreement of the product; null on dates that an older version built',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by time-of-use period and product, one row per scheme, period, date and product name' AS
SELECT
  slots.scheme, slots.period, half_hourly.date, half_hourly.product_display_name, count(*) AS half_hours,
  CAST(sum(half_hourly.consumption_kwh) AS DECIMAL(18,6)) AS consumption_kwh,
  sum(half_hourly.expected_readings) AS expected_readings, sum(half_hourly.meterpoint_count) AS received_readings,
  CAST(sum(if(half_hourly.expected_readings IS NOT NULL, half_hourly.meterpoint_count, NULL)) / nullif(sum(half_hourly.expected_readings), 0) AS DECIMAL(9,6)) AS received_share,
  CAST(sum(half_hourly.actual_readings) / nullif(sum(half_hourly.rated_readings), 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.half_hourly_by_product AS half_hourly
JOIN (SELECT scheme, period, explode(half_hours) AS half_hour FROM silver.time_of_use_periods) AS slots
  ON slots.half_hour = weekday(half_hourly.date) * 48 + hour(half_hourly.interval_start) * 2 + minute(half_hourly.interval_start) DIV 30
GROUP BY ALL;

-- One row: a scheme's period, a month and a product.
-- SELECT month, period, sum(consumption_kwh) AS kwh FROM gold.monthly_period_consumption WHERE scheme = 'Economy 7' GROUP BY ALL
CREATE OR REPLACE VIEW gold.monthly_period_consumption (
  scheme COMMENT 'Name of the scheme, see silver.time_of_use_periods',
  period COMMENT 'Name of the period',
  month COMMENT 'First local date of the month',
  product_display_name COMMENT 'Name of the product; several products may share one',
  half_hours COMMENT 'Half hours of the period on dates on which the product has an agreement and anybody was read; on dates that an older version built those with a reading',
  consumption_kwh COMMENT 'Energy used in them, kWh; null if none was read',
  expected_readings COMMENT 'Half hours of all meterpoints with an agreement of the product; null on dates that an older version built',
  received_readings COMMENT 'Those of them with a reading',
  received_share COMMENT 'received_readings by expected_readings, 0 to 1; null on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by time-of-use period and product, one row per scheme, period, month and product name' AS
SELECT
  slots.scheme, slots.period, CAST(date_trunc('MONTH', half_hourly.date) AS DATE) AS month, half_hourly.product_display_name, count(*) AS half_hours,
  CAST(sum(half_hourly.consumption_kwh) AS DECIMAL(18,6)) AS consumption_kwh,
  sum(half_hourly.expected_readings) AS expected_readings, sum(half_hourly.meterpoint_count) AS received_readings,
  CAST(sum(if(half_hourly.expected_readings IS NOT NULL, half_hourly.meterpoint_count, NULL)) / nullif(sum(half_hourly.expected_readings), 0) AS DECIMAL(9,6)) AS received_share,
  CAST(sum(half_hourly.actual_readings) / nullif(sum(half_hourly.rated_readings), 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.half_hourly_by_product AS half_hourly
JOIN (SELECT scheme, period, explode(half_hours) AS half_hour FROM silver.time_of_use_periods) AS slots
  ON slots.half_hour = weekday(half_hourly.date) * 48 + hour(half_hourly.interval_start) * 2 + minute(half_hourly.interval_start) DIV 30
GROUP BY ALL;
