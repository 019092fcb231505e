-- Beside each total: how much was received of what was expected, and how much of it is actual. A low sum and a delivery that is
-- missing cannot be taken for each other. Shares are not to be averaged: the marts have the counts.

CREATE OR REPLACE VIEW gold.half_hourly_consumption (
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading',
  consumption_kwh COMMENT 'Energy used by all of them, kWh',
  received_share COMMENT 'Half hours received by those expected, of meterpoints with an agreement on the date, 0 to 1; null where no half hour is expected, or on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption of all meterpoints, one row per half hour' AS
SELECT
  interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh,
  CAST(received_readings / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.half_hourly;

-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.
CREATE OR REPLACE VIEW gold.daily_product_consumption (
  product_display_name COMMENT 'Name of the product; several products may share one',
  date COMMENT 'Local date',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh COMMENT 'Energy used by them, kWh',
  received_share COMMENT 'Half hours received by those expected, of meterpoints with an agreement of the product on the date, 0 to 1; null where no half hour is expected, or on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by product, one row per product name and date' AS
SELECT
  product_display_name, date, meterpoint_count, consumption_kwh,
  CAST(received_readings / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.daily_by_product;

-- Left out: readings of meterpoints without an agreement on the date, see gold.readings_without_agreement.
CREATE OR REPLACE VIEW gold.half_hourly_product_consumption (
  product_display_name COMMENT 'Name of the product; several products may share one',
  interval_start COMMENT 'Start of the half hour, local wall-clock time (Europe/London)',
  interval_start_utc COMMENT 'Start of the half hour, UTC',
  date COMMENT 'Local date of interval_start',
  meterpoint_count COMMENT 'Distinct meterpoints with a reading and an agreement of the product',
  consumption_kwh COMMENT 'Energy used by them, kWh',
  average_kwh COMMENT 'Energy used by a meterpoint on average, kWh',
  received_share COMMENT 'Half hours received by those expected, of meterpoints with an agreement of the product on the date, 0 to 1; null where no half hour is expected, or on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption by product, one row per product name and half hour' AS
SELECT
  product_display_name, interval_start, interval_start_utc, date, meterpoint_count, consumption_kwh, average_kwh,
  CAST(meterpoint_count / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.half_hourly_by_product
WHERE meterpoint_count > 0;

-- On every date: half_hourly_consumption = daily_product_consumption + readings_without_agreement. kWh.
CREATE OR REPLACE VIEW gold.readings_without_agreement (
  meterpoint_id COMMENT 'Meterpoint that was read',
  date COMMENT 'Local date',
  reading_count COMMENT 'Half hours with a reading',
  consumption_kwh COMMENT 'Energy used on the date, kWh',
  received_share COMMENT 'reading_count by the half hours of the date, 0 to 1; null on dates that an older version built',
  actual_share COMMENT 'Readings with the quality A by those with any quality, 0 to 1; null where no file told one, or on dates that an older version built'
) COMMENT 'Consumption that no product accounts for, one row per meterpoint and date' AS
SELECT
  meterpoint_id, date, reading_count, consumption_kwh,
  CAST(reading_count / nullif(expected_readings, 0) AS DECIMAL(9,6)) AS received_share,
  CAST(actual_readings / nullif(rated_readings, 0) AS DECIMAL(9,6)) AS actual_share
FROM mart.daily_meterpoint_consumption
WHERE agreement_id IS NULL;
