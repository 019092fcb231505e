-- How does an average meterpoint of each product run through a day?
SELECT product_display_name, interval_start, average_kwh
FROM gold.half_hourly_product_consumption
WHERE date = DATE '2021-01-01'
ORDER BY product_display_name, interval_start_utc;

-- Which share of its energy does each product use in the evening peak, from 16:00 to 19:00?
SELECT
  product_display_name,
  sum(consumption_kwh) FILTER (WHERE hour(interval_start) BETWEEN 16 AND 18) / nullif(sum(consumption_kwh), 0) AS evening_share
FROM gold.half_hourly_product_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY product_display_name
ORDER BY evening_share DESC;

-- When does each product draw most? In kW of all its meterpoints.
SELECT product_display_name, max_by(interval_start, consumption_kwh) AS peak_start, 2 * max(consumption_kwh) AS peak_kw
FROM gold.half_hourly_product_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY product_display_name
ORDER BY peak_kw DESC;
