-- How much energy was used in each period of a scheme?
SELECT scheme, period, sum(consumption_kwh) AS consumption_kwh
FROM gold.monthly_period_consumption
WHERE month BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY scheme, period
ORDER BY scheme, period;

-- Which share of its energy does each product use in each period?
SELECT
  scheme, product_display_name, period,
  sum(consumption_kwh) / nullif(sum(sum(consumption_kwh)) OVER (PARTITION BY scheme, product_display_name), 0) AS share
FROM gold.monthly_period_consumption
WHERE month BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY scheme, product_display_name, period
ORDER BY scheme, product_display_name, period;

-- How complete are the periods?
SELECT month, scheme, period, sum(received_readings) / nullif(sum(expected_readings), 0) AS received_share
FROM gold.monthly_period_consumption
WHERE month BETWEEN DATE '2021-01-01' AND DATE '2021-01-31'
GROUP BY month, scheme, period
ORDER BY month, scheme, period;
