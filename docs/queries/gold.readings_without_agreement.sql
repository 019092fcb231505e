-- How much energy does no product account for, day by day?
SELECT date, count(*) AS meterpoints, sum(consumption_kwh) AS consumption_kwh
FROM gold.readings_without_agreement
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY date
ORDER BY date;

-- Which meterpoints use most without an agreement, and since when?
SELECT meterpoint_id, min(date) AS first_date, max(date) AS last_date, sum(consumption_kwh) AS consumption_kwh
FROM gold.readings_without_agreement
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY meterpoint_id
ORDER BY consumption_kwh DESC
LIMIT 20;

-- Do all products and what has no agreement add up to the whole? The last column is 0 on every date.
WITH everything AS (SELECT date, sum(consumption_kwh) AS kwh FROM gold.half_hourly_consumption GROUP BY date),
products AS (SELECT date, sum(consumption_kwh) AS kwh FROM gold.daily_product_consumption GROUP BY date),
without AS (SELECT date, sum(consumption_kwh) AS kwh FROM gold.readings_without_agreement GROUP BY date)
SELECT
  date, everything.kwh, products.kwh AS of_products, without.kwh AS without_agreement,
  everything.kwh - coalesce(products.kwh, 0) - coalesce(without.kwh, 0) AS difference_kwh
FROM everything
LEFT JOIN products USING (date)
LEFT JOIN without USING (date)
WHERE date BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
ORDER BY date;
