-- How did the consumption of each region run through a day?
SELECT region, interval_start, meterpoint_count, consumption_kwh
FROM gold.half_hourly_region_consumption
WHERE date = DATE '2021-01-01'
ORDER BY region, interval_start_utc;

-- In which half hour did each region draw most in a month? In kW of all its meterpoints.
SELECT region, max_by(interval_start, consumption_kwh) AS peak_start, 2 * max(consumption_kwh) AS peak_kw
FROM gold.half_hourly_region_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY region
ORDER BY peak_kw DESC;

-- What share of the expected half hours came, region by region?
SELECT region, sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.half_hourly_region_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY region
ORDER BY received_share;
