-- Run at each start, so every statement finds its result already there most times. `metastore` owns the database;
-- `endpoint` may only read it, now and in tables to come.
\getenv metastore_password METASTORE_DB_PASSWORD
\getenv endpoint_password ENDPOINT_DB_PASSWORD
SET client_min_messages = warning;
SET password_encryption = 'scram-sha-256';

SELECT 'CREATE ROLE metastore LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'metastore') \gexec
SELECT 'CREATE ROLE endpoint LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'endpoint') \gexec
ALTER ROLE metastore PASSWORD :'metastore_password';
ALTER ROLE endpoint PASSWORD :'endpoint_password';

SELECT 'CREATE DATABASE metastore OWNER metastore' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'metastore') \gexec
REVOKE ALL ON DATABASE metastore FROM PUBLIC;
GRANT CONNECT ON DATABASE metastore TO endpoint;

\connect metastore
GRANT USAGE ON SCHEMA public TO endpoint;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO endpoint;
ALTER DEFAULT PRIVILEGES FOR ROLE metastore IN SCHEMA public GRANT SELECT ON TABLES TO endpoint;
