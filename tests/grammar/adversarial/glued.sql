-- Comments between any two tokens, operators glued together, literals that go on, no blanks at all.
ALTER/**/TABLE/**/a/**/ADD/**/b/**/int/**/NOT/**/NULL/**/DEFAULT/**/1;
ALTER--x
TABLE--x
a--x
RENAME--x
b--x
TO--x
c;
ALTER TABLE a /* /* nested */ ADD c int, */ ADD b int;
ALTER TABLE"a"ADD"b"int DEFAULT'c'NOT NULL;
ALTER TABLE"a"."b"RENAME"c"TO"d";
CREATE TABLE"a"("b"int,"c"text DEFAULT'd',CHECK("b">0));
CREATE INDEX"a"ON"b"("c");
CREATE INDEX a ON b(c)WHERE"d"=1;
ALTER TABLE a ADD b int DEFAULT 1+-2, ADD c bool DEFAULT 3>-4, ADD d int DEFAULT 1- -1;
ALTER TABLE a ADD b int DEFAULT 1--2
+3;
ALTER TABLE a ADD b bool DEFAULT 1<>2, ADD c bool DEFAULT 1!=2, ADD d bool DEFAULT 1>=2, ADD e int DEFAULT 2^3%4;
ALTER TABLE a ADD b bool DEFAULT '{1}'::int[]@>'{1}'::int[], ADD c bool DEFAULT '{}'::jsonb?'a';
ALTER TABLE a ADD b bool DEFAULT 'a'~'b', ADD c bool DEFAULT 'a'!~*'b', ADD d bool DEFAULT 'a'~~'b', ADD e int DEFAULT @-5;
ALTER TABLE a ADD b int DEFAULT 5!=-1, ADD c int DEFAULT |/4, ADD d bool DEFAULT 1 OPERATOR(pg_catalog.=) 2;
ALTER TABLE a ADD b text DEFAULT 'a'
  'b', ADD c int;
ALTER TABLE a ADD b text DEFAULT E'\'NOT NULL', ADD c text DEFAULT E'\\', ADD d text DEFAULT '\';
ALTER TABLE a ADD b text DEFAULT e'a\nb\x41\u0042', ADD c text DEFAULT U&'\0061', ADD d text DEFAULT U&'!0061' UESCAPE '!' NOT NULL;
ALTER TABLE a ADD b bit(3) DEFAULT B'101', ADD c bit(8) DEFAULT X'1f', ADD d text DEFAULT N'x';
ALTER TABLE a ADD b text DEFAULT $$NOT NULL, ADD c int$$, ADD d text DEFAULT $x$ $$ ; $y$ $x$;
ALTER TABLE a ADD b text DEFAULT $ä$x$ä$ NOT NULL;
ALTER TABLE a ADD b numeric DEFAULT .5, ADD c numeric DEFAULT 1., ADD d numeric DEFAULT 1e-3, ADD e int DEFAULT 0x1F, ADD f int DEFAULT 1_000;
ALTER TABLE a ADD b int DEFAULT 0b101, ADD c int DEFAULT 0o17;
alter table A add B INT default 1, ALTER column C set NOT null;
aLtEr TaBlE a ReNaMe B tO c;
CREATE	TABLE	a	(	b	int	)	;
CREATE TABLE a(b int DEFAULT(1),c int DEFAULT(2)NOT NULL,d text DEFAULT('x')::text UNIQUE);
CREATE TABLE a(b int CHECK(b>0)CHECK(b<9)NOT NULL,PRIMARY KEY(b),UNIQUE(b));
ALTER TABLE a ALTER b TYPE int USING(b::int),ALTER c TYPE text USING c::text;
ALTER TABLE a ALTER b TYPE int USING b::int -- , ALTER c DROP NOT NULL
;
UPDATE a SET b=c--d
,e='--f',g=/* h */1 WHERE i=$1;
UPDATE a SET b=-1,c=+2,d=e||'f'||g WHERE h<@i AND j->>'k'='l'AND m#>>'{n}'='o';
SELECT 1--SELECT 2 FROM a
FROM b/*,c*/;
COMMENT ON TABLE a IS 'b'
 'c';
/* first */ ALTER /* second */ TABLE /* third */ a /* fourth */ DROP /* fifth */ b;
-- leading
-- comments
DROP TABLE a -- trailing
;
GRANT/**/SELECT/**/ON/**/a/**/TO/**/b;
SET/**/LOCAL/**/lock_timeout/**/=/**/'1s';
CREATE FUNCTION f()RETURNS int LANGUAGE sql AS $$SELECT 1$$;
CREATE FUNCTION f(a int=1,b text='x,y')RETURNS text[]LANGUAGE plpgsql AS'BEGIN END';
