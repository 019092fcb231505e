-- How much energy did each product use in a month?
SELECT product_display_name, sum(consumption_kwh) AS consumption_kwh
FROM gold.daily_product_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY product_display_name
ORDER BY consumption_kwh DESC;

-- What does a meterpoint of each product use on an average day? Products of many meterpoints are comparable with small ones so.
SELECT product_display_name, sum(consumption_kwh) / sum(meterpoint_count) AS kwh_a_meterpoint_and_day
FROM gold.daily_product_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY product_display_name
ORDER BY kwh_a_meterpoint_and_day DESC;

-- How does each day compare with the same product's day before? Look at the meterpoints, too: fewer of them is less energy.
SELECT
  product_display_name, date, consumption_kwh, meterpoint_count,
  consumption_kwh - lag(consumption_kwh) OVER (PARTITION BY product_display_name ORDER BY date) AS more_kwh,
  meterpoint_count - lag(meterpoint_count) OVER (PARTITION BY product_display_name ORDER BY date) AS more_meterpoints
FROM gold.daily_product_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
ORDER BY product_display_name, date;
