-- How much energy did each region use in a month?
SELECT region, sum(consumption_kwh) AS consumption_kwh
FROM gold.daily_region_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY region
ORDER BY consumption_kwh DESC;

-- How many meterpoints of each product were read in each region on a day?
SELECT region, product_display_name, meterpoint_count, consumption_kwh
FROM gold.daily_region_consumption
WHERE date = DATE '2021-01-01'
ORDER BY region, meterpoint_count DESC;

-- In which regions is a low sum a missing delivery?
SELECT date, region, sum(consumption_kwh) AS consumption_kwh,
  sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.daily_region_consumption
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY date, region
ORDER BY received_share;
