<?php
// PDO as frameworks use it: real and emulated prepared statements, lastInsertId,
// transactions with savepoints, types made again, COPY, LISTEN.

function plain($v)
{
    if (is_resource($v)) {
        $v = stream_get_contents($v);
    }
    return json_encode($v, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PARTIAL_OUTPUT_ON_ERROR);
}

function say(string $name, $value): void
{
    global $check;
    echo "$check.$name: ", plain($value), "\n";
}

function attempt(string $name, callable $fn): void
{
    try {
        say($name, $fn());
    } catch (PDOException $e) {
        say($name, ['refused', $e->getCode(), str_replace("\n", ' / ', $e->errorInfo[2] ?? $e->getMessage())]);
    }
}

function connect(array $options = []): PDO
{
    $dsn = sprintf('pgsql:host=%s;port=%s;dbname=%s', getenv('PGHOST'), getenv('PGPORT'), getenv('PGDATABASE'));
    return new PDO($dsn, getenv('PGUSER'), null, $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_NUM]);
}

function all(PDO $db, string $sql, array $args = []): array
{
    $st = $db->prepare($sql);
    $st->execute($args);
    return $st->columnCount() ? $st->fetchAll() : [$st->rowCount()];
}

$checks = [];

// Each way PDO has to run a statement.
foreach (['prepared' => [], 'emulated' => [PDO::ATTR_EMULATE_PREPARES => true], 'unnamed' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true]] as $way => $options) {
    $checks["statements $way"] = function () use ($way, $options) {
        $db = connect($options);
        $t = "php_$way";
        $db->exec("create table $t (id serial primary key, name text unique, paid boolean, data bytea)");
        $insert = $db->prepare("insert into $t (name, paid, data) values (:name, :paid, :data)");
        foreach (['a', "it's ü", null] as $i => $name) {
            $insert->bindValue('name', $name);
            $insert->bindValue('paid', $i % 2 === 0, PDO::PARAM_BOOL);
            $insert->bindValue('data', "\x01'\xff", PDO::PARAM_LOB);
            attempt('insert', fn () => [$insert->execute(), $insert->rowCount()]);
        }
        attempt('duplicate', fn () => all($db, "insert into $t (name) values (?)", ['a']));
        say('rows', all($db, "select id, name, paid from $t where id > ? order by id", [0]));
        say('lob', bin2hex(stream_get_contents($db->query("select data from $t where id = 1")->fetchColumn())));
        say('in', all($db, "select name from $t where id in (?, ?) order by 1", [1, 2]));
        attempt('question mark', fn () => all($db, "select '{\"a\": 1}'::jsonb ?? 'a'"));
        attempt('type', fn () => all($db, 'select ?::int', ['x']));
        attempt('count', fn () => $db->query("select count(*) from $t")->fetchColumn());
        attempt('several', fn () => $db->exec("update $t set paid = true; delete from $t where id = 3"));
        $again = $db->prepare("select * from $t where id = ?");
        for ($i = 0; $i < 8; $i++) {
            $again->execute([$i % 3]);
            say("again $i", array_slice($again->fetchAll()[0] ?? [], 0, 3));
        }
        $db->exec("alter table $t drop column data");
        attempt('after DDL', fn () => all($db, "select * from $t order by id"));
    };
}

$checks['lastInsertId'] = function () {
    $db = connect();
    $db->exec('create table php_ids (id serial primary key, a int)');
    $db->beginTransaction();
    for ($i = 0; $i < 3; $i++) {
        $db->exec("insert into php_ids (a) values ($i)");
        say("in a transaction $i", [$db->lastInsertId(), $db->lastInsertId('php_ids_id_seq')]);
    }
    $db->commit();
    say('behind it', $db->lastInsertId());
    for ($i = 0; $i < 3; $i++) {
        all($db, 'insert into php_ids (a) values (?)', [$i]);
        say("autocommit $i", [$db->lastInsertId(), $db->lastInsertId('php_ids_id_seq')]);
    }
    say('returning', all($db, 'insert into php_ids (a) values (?) returning id', [9]));
    attempt('no such sequence', fn () => $db->lastInsertId('nowhere'));
};

$checks['transactions'] = function () {
    $db = connect();
    $db->exec('create table php_tx (a int primary key)');
    $db->beginTransaction();
    say('inside', [$db->inTransaction(), all($db, 'insert into php_tx values (?)', [1])]);
    $db->exec('savepoint trans2'); // as nested transactions of ORMs
    attempt('error', fn () => all($db, 'insert into php_tx values (?)', [1]));
    attempt('aborted', fn () => all($db, 'select 1'));
    $db->exec('rollback to savepoint trans2');
    say('back', all($db, 'select * from php_tx'));
    $db->commit();
    say('after', [$db->inTransaction(), all($db, 'select * from php_tx')]);
    $db->beginTransaction();
    $db->exec('delete from php_tx');
    $db->rollBack();
    say('rolled back', all($db, 'select * from php_tx'));
    attempt('no transaction', fn () => $db->commit());
    $db->exec('set transaction_isolation = default');
    $db->exec('begin isolation level repeatable read read only');
    attempt('read only', fn () => all($db, 'insert into php_tx values (2)'));
    $db->exec('rollback');
};

$checks['settings'] = function () {
    $db = connect();
    foreach (["set names 'utf8'", "set search_path to 'public'", "set session timezone to 'Europe/Berlin'", 'set application_name to \'laravel\''] as $sql) {
        say($sql, $db->exec($sql));
    }
    say('shown', all($db, "select current_setting('search_path'), current_setting('timezone'), current_setting('application_name'), '2026-02-28 00:00+00'::timestamptz::text"));
    $db->exec("set client_encoding to 'LATIN1'");
    say('latin1', bin2hex($db->query("select 'gr' || chr(252) || 'n'")->fetchColumn()));
};

$checks['types made again'] = function () {
    $db = connect();
    $other = connect();
    $sql = 'insert into php_moods values (?::php_mood) returning mood';
    for ($i = 0; $i < 3; $i++) {
        $db->exec("drop table if exists php_moods; drop type if exists php_mood");
        $db->exec("create type php_mood as enum ('calm', 'mood $i')");
        $db->exec('create table php_moods (mood php_mood)');
        attempt("own $i", fn () => all($db, $sql, ["mood $i"]));
        attempt("other $i", fn () => all($other, $sql, ['calm']));
        attempt("wrong $i", fn () => all($other, $sql, ['angry']));
    }
    $db->exec("alter type php_mood add value 'new'");
    attempt('added', fn () => all($other, $sql, ['new']));
};

$checks['COPY'] = function () {
    $db = connect();
    $db->exec('create table php_copy (a int, b text)');
    attempt('in', fn () => $db->pgsqlCopyFromArray('php_copy', ["1\tone", "2\t\\N", "3\tü"]));
    attempt('bad', fn () => $db->pgsqlCopyFromArray('php_copy', ['x']));
    attempt('out', fn () => $db->pgsqlCopyToArray('php_copy'));
};

$checks['LISTEN'] = function () {
    $db = connect();
    $other = connect();
    $db->exec('listen php_channel');
    foreach (['a', 'b'] as $payload) {
        all($other, 'select pg_notify(?, ?)', ['php_channel', $payload]);
    }
    for ($i = 0; $i < 2; $i++) {
        $got = $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000);
        say("got $i", [$got['message'], $got['payload']]);
    }
    say('own pid', all($db, 'select pg_notify(?, ?)', ['php_channel', 'c']) && $db->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000)['pid'] === $db->pgsqlGetPid());
};

$checks['cursor'] = function () {
    $db = connect();
    $db->beginTransaction();
    $st = $db->prepare('select g from generate_series(1, 10) g', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $st->execute();
    say('forward', [$st->fetch(), $st->fetch(), $st->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_LAST), $st->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_PRIOR)]);
    $st = null;
    $db->commit();
};

$checks['persistent'] = function () {
    for ($i = 0; $i < 5; $i++) {
        $db = connect([PDO::ATTR_PERSISTENT => true]);
        say((string) $i, all($db, "select coalesce(current_setting('app.round', true), 'unset'), set_config('app.round', ?, false)", [(string) $i]));
        $db = null;
    }
};

foreach ($checks as $check => $fn) {
    try {
        $fn();
    } catch (Throwable $e) {
        say('unexpected', get_class($e) . ': ' . $e->getMessage());
    }
}
$check = 'program';
say('end', 'all checks ran');
