-- Every spelling of a type.
CREATE TABLE a (b int, c int4, d integer, e int2, f smallint, g int8, h bigint);
CREATE TABLE a (b float, c float(1), d float(24), e float(25), f float(53), g float4, h float8, i real, j double precision);
CREATE TABLE a (b decimal, c dec(4), d numeric(10, 2), e numeric(3), f decimal(5,-2), g numeric);
CREATE TABLE a (b char, c char(3), d character, e character(5), f character varying, g character varying(6), h varchar, i varchar(7));
CREATE TABLE a (b char varying, c char varying(3), d national character varying(4), e national char(5), f nchar(6), g nchar varying(7), h bpchar, i "char");
CREATE TABLE a (b bit, c bit(3), d bit varying, e bit varying(4), f varbit(5));
CREATE TABLE a (b time, c time(3), d time with time zone, e time(3) without time zone, f timetz, g timetz(3));
CREATE TABLE a (b timestamp, c timestamp(3), d timestamp with time zone, e timestamp(3) with time zone, f timestamp without time zone, g timestamptz(6));
CREATE TABLE a (b interval, c interval(3), d interval year, e interval month, f interval day, g interval hour, h interval minute, i interval second);
CREATE TABLE a (b interval year to month, c interval day to hour, d interval day to minute, e interval day to second, f interval day to second(3));
CREATE TABLE a (b interval hour to minute, c interval hour to second(2), d interval minute to second, e interval second(4));
CREATE TABLE a (b int[], c int[3], d int[3][4], e int array, f int array[5], g text[][], h varchar(3)[], i timestamp(3) with time zone[]);
CREATE TABLE a (b int [ ], c int [3] [ ], d interval day to second[], e numeric(4, 2)[2]);
CREATE TABLE a (b s.t, c "S"."T", d s."T"(3), e "t"[], f s.t[], g "My Type", h citext, i hstore, j geometry(Point, 4326));
CREATE TABLE a (b pg_catalog.int4, c pg_catalog.varchar(3), d "pg_catalog"."timestamptz", e pg_catalog.bpchar(2));
CREATE TABLE a (b serial, c bigserial PRIMARY KEY, d smallserial NOT NULL, e serial4, f serial8, g serial2);
CREATE TABLE a (b uuid, c json, d jsonb, e xml, f bytea, g inet, h cidr, i macaddr, j money, k boolean, l bool);
CREATE TABLE a (b INT -- comment
  , c VARCHAR /* ( */ (3), d TIMESTAMP /* with */ (3) -- zone
  NOT NULL);
CREATE TABLE a (b double, c precision_, d varying, e zone, f "varchar", g "timestamp");
CREATE TABLE a (b x.y.z);
ALTER TABLE a ALTER b TYPE int USING b::int;
ALTER TABLE a ALTER COLUMN b TYPE varchar(10) COLLATE "C" USING trim(b), ALTER c SET DATA TYPE text;
ALTER TABLE a ALTER b TYPE timestamp with time zone USING b AT TIME ZONE 'UTC', ALTER c TYPE bigint;
ALTER TABLE a ALTER b TYPE s.e USING (CASE b WHEN 'a, b' THEN 'c' ELSE b END)::s.e, ADD d int;
ALTER TABLE a ALTER b TYPE text[] USING string_to_array(b, ','), ALTER b SET DEFAULT '{}', ALTER b SET NOT NULL;
ALTER TABLE a ALTER b SET DATA TYPE interval hour to second(3) USING b * interval '1' hour;
CREATE TYPE a AS (b int, c text COLLATE "C", d timestamp(3) with time zone[]);
CREATE TYPE a AS ();
CREATE TYPE a AS ENUM ();
CREATE TYPE a AS ENUM ('b', 'c''d', E'e\'f', U&'\0067', 'h'
  'i');
CREATE TYPE a AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE a AS RANGE (SUBTYPE = timestamp with time zone);
CREATE TYPE a (INPUT = b, OUTPUT = c);
CREATE TYPE a;
CREATE FUNCTION f(a int, OUT b text, INOUT c s.t[], VARIADIC d int[] DEFAULT '{}') RETURNS SETOF record LANGUAGE sql AS 'select 1';
CREATE FUNCTION f(double precision, timestamp with time zone, a text = 'x', b int DEFAULT 1) RETURNS TABLE (c int, d text) AS $$ select 1 $$ LANGUAGE sql STABLE STRICT;
CREATE OR REPLACE FUNCTION "F"() RETURNS trigger AS $body$ BEGIN RETURN NEW; END $body$ LANGUAGE 'plpgsql' VOLATILE COST 10;
CREATE FUNCTION f(a b.c%TYPE) RETURNS b.c%TYPE IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS 'x', 'y';
CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a, b SET x TO 'c' SECURITY DEFINER RETURN 1;
CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 2 END; END;
CREATE PROCEDURE p(INOUT a int) LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
CREATE DOMAIN s.d AS varchar(3)[] CHECK (cardinality(VALUE) > 0);
