-- Every option of an index.
CREATE INDEX a ON b (c);
CREATE INDEX a ON b USING btree (c DESC, d ASC NULLS FIRST, e NULLS LAST);
CREATE INDEX a ON b (c COLLATE "C", d COLLATE pg_catalog."de" text_pattern_ops DESC);
CREATE INDEX a ON b (lower(c), (d || 'e'), (f -> 'g'), h);
CREATE INDEX a ON b ((c), (d + 1) DESC, coalesce(e, ''), s.f(g));
CREATE INDEX a ON b USING gin (c gin_trgm_ops, d jsonb_path_ops);
CREATE INDEX a ON b USING gist (c gist_trgm_ops (siglen = 32));
CREATE INDEX a ON b USING gin (to_tsvector('english', c || ' ' || d)) WITH (fastupdate = off);
CREATE INDEX a ON b USING brin (c) WITH (pages_per_range = 32);
CREATE INDEX a ON b USING hash (c);
CREATE UNIQUE INDEX a ON b (c) INCLUDE (d, e) NULLS NOT DISTINCT WITH (fillfactor = 70) TABLESPACE f WHERE g IS NULL;
CREATE UNIQUE INDEX a ON b (c) NULLS DISTINCT WHERE NOT d AND e IN ('a', 'b');
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a ON s.b (c) WHERE (d = 'x')::bool;
CREATE INDEX CONCURRENTLY a ON ONLY b (c);
CREATE INDEX a ON ONLY s.b (c);
CREATE INDEX a ON b (c) WHERE d IS NOT NULL AND (e > 1 OR f ~ 'WHERE');
CREATE INDEX a ON b ((c ->> 'd'), (e #>> '{f,g}'), ((h -> 'i')::text));
CREATE INDEX a ON b ((c IS NOT NULL), (CASE WHEN d THEN 1 END));
CREATE INDEX a ON b (CAST(c AS date));
CREATE INDEX a ON b (date_trunc('day', c AT TIME ZONE 'UTC'));
CREATE INDEX a ON b (extract(year FROM c));
CREATE INDEX "A b" ON "C"."D e" ("F", "g""h", lower("I"));
CREATE INDEX a ON b (desc_, asc_, "desc" DESC, "nulls" NULLS FIRST);
CREATE INDEX a ON b (
  c -- the first
  , d /* the second */ DESC
) -- the end
WHERE e;
REINDEX INDEX a;
REINDEX TABLE CONCURRENTLY s.a;
REINDEX (VERBOSE, CONCURRENTLY) INDEX a;
REINDEX (CONCURRENTLY false) TABLE a;
REINDEX SCHEMA a;
CLUSTER a USING b;
CLUSTER (VERBOSE) a;
CLUSTER;
VACUUM;
VACUUM FULL a;
VACUUM (FULL false, ANALYZE) a, b (c, d);
VACUUM FREEZE VERBOSE ANALYZE a;
VACUUM (FULL, FREEZE off) s.a;
ANALYZE a (b), c;
ANALYZE VERBOSE;
REFRESH MATERIALIZED VIEW a;
REFRESH MATERIALIZED VIEW CONCURRENTLY s.a WITH DATA;
REFRESH MATERIALIZED VIEW a WITH NO DATA;
