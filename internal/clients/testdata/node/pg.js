'use strict';
// node-postgres as applications use it: simple, extended and named queries, types,
// errors, cursors, COPY, LISTEN, transactions on a pool, cancel by ending.

const { Client, Pool, types } = require('pg');
const Cursor = require('pg-cursor');
const copy = require('pg-copy-streams');
const { pipeline } = require('node:stream/promises');
const { Readable } = require('node:stream');

let check = '';

function say(name, value) {
  console.log(`${check}.${name}: ${JSON.stringify(value)}`);
}

async function attempt(name, run) {
  try {
    say(name, await run());
  } catch (e) {
    say(name, ['refused', e.code, e.message, e.position, e.constraint]);
  }
}

async function connected(run, options = {}) {
  const client = new Client(options);
  await client.connect();
  try {
    await run(client);
  } finally {
    await client.end();
  }
}

const rows = async (client, ...args) => (await client.query(...args)).rows;

const checks = {
  async simple() {
    await connected(async (c) => {
      await c.query('create table simple (id serial primary key, name text unique, at timestamptz default now())');
      await attempt('insert', async () => {
        const r = await c.query("insert into simple (name) values ('a'), ('it''s ü') returning id, name");
        return [r.command, r.rowCount, r.rows, r.fields.map((f) => [f.name, f.dataTypeID])];
      });
      await attempt('duplicate', () => c.query("insert into simple (name) values ('a')"));
      await attempt('syntax', () => c.query('selec 1'));
      await attempt('several', async () => {
        const all = await c.query('select 1 as a; update simple set name = name; select count(*) from simple');
        return all.map((r) => [r.command, r.rowCount, r.rows]);
      });
      await attempt('several that fail', () => c.query("insert into simple (name) values ('gone'); select 1/0"));
      await attempt('empty', async () => (await c.query('')).rows);
      await attempt('left', () => rows(c, 'select id, name from simple order by id'));
    });
  },

  async extended() {
    await connected(async (c) => {
      await c.query('create table extended (id int primary key, v jsonb, tags text[], data bytea, amount numeric, at date)');
      for (let i = 0; i < 5; i++) {
        await c.query('insert into extended values ($1, $2, $3, $4, $5, $6)',
          [i, { n: i }, ['x', null, `"${i}"`], Buffer.from([0, i, 255]), '1.50', i === 3 ? null : '2024-02-29']);
      }
      await attempt('rows', async () => (await rows(c, 'select id, v, tags, data, amount, at::text from extended where id >= $1 order by id', [1]))
        .map((r) => ({ ...r, data: r.data.toString('hex') })));
      await attempt('array', async () => (await c.query({ text: 'select id, v from extended where id = any($1) order by id', values: [[1, 2]], rowMode: 'array' })).rows);
      await attempt('type', () => c.query('select $1::int', ['x']));
      await attempt('count', () => c.query('select $1::int, $2::int', [1]));
      await attempt('unknown', () => c.query('select * from nowhere where a = $1', [1]));
      await attempt('null', () => rows(c, 'select $1::text as v', [null]));
      await attempt('after', () => rows(c, 'select count(*)::int from extended'));
    });
  },

  async named() {
    await connected(async (c) => {
      await c.query('create table named (id int, a text)');
      for (let i = 0; i < 6; i++) {
        await c.query({ name: 'put', text: 'insert into named values ($1, $2)', values: [i, `v${i}`] });
        await attempt(`read ${i}`, () => rows(c, { name: 'read', text: 'select a from named where id = $1', values: [i] }));
      }
      await attempt('other text', () => c.query({ name: 'read', text: 'select 1', values: [] }));
      await attempt('fails', () => c.query({ name: 'fails', text: 'select 1 / $1::int', values: [0] }));
      await attempt('fails, again', () => c.query({ name: 'fails', text: 'select 1 / $1::int', values: [1] }).then((r) => r.rows));
      await c.query('alter table named add b int default 7');
      await attempt('after DDL', () => rows(c, { name: 'read', text: 'select a from named where id = $1', values: [1] }));
      await attempt('by SQL in a string', async () => (await c.query("select 1 as a; execute read('2')")).map((r) => r.rows));
    });
  },

  async transactions() {
    const pool = new Pool({ max: 3 });
    await pool.query('create table accounts (id int primary key, sum int)');
    await pool.query('insert into accounts values (1, 10), (2, 20)');
    const move = async (by) => {
      const c = await pool.connect();
      try {
        await c.query('BEGIN');
        await c.query('update accounts set sum = sum - $1 where id = 1', [by]);
        await c.query('SAVEPOINT s');
        await c.query('select 1/0').catch(() => c.query('ROLLBACK TO s'));
        await c.query('update accounts set sum = sum + $1 where id = 2', [by]);
        if (by > 5) throw new Error('too much');
        await c.query('COMMIT');
        return 'moved';
      } catch (e) {
        await c.query('ROLLBACK');
        return e.message;
      } finally {
        c.release();
      }
    };
    await attempt('moved', () => move(5));
    await attempt('undone', () => move(6));
    await attempt('sums', async () => (await pool.query('select id, sum from accounts order by id')).rows);
    await attempt('at once', async () => (await Promise.all([1, 2, 3, 4, 5, 6].map((i) => pool.query('select $1::int as i', [i])))).map((r) => r.rows[0].i));
    await attempt('isolation', async () => {
      const c = await pool.connect();
      await c.query('begin isolation level serializable read only');
      const level = await rows(c, 'show transaction_isolation');
      const refused = await c.query('insert into accounts values (3, 3)').catch((e) => e.code);
      await c.query('rollback');
      c.release();
      return [level, refused];
    });
    await pool.end();
  },

  async settings() {
    await connected(async (c) => {
      await attempt('application', () => rows(c, 'show application_name'));
      await attempt('option', () => rows(c, "select current_setting('statement_timeout') as t, current_setting('app.tenant') as a"));
      await attempt('timeout', () => c.query('select pg_sleep(30)'));
      await c.query("set app.tenant = '8'");
      await attempt('set', () => rows(c, "select current_setting('app.tenant') as a"));
    }, { application_name: 'node', statement_timeout: 300, options: '-c app.tenant=7' });
  },

  async cursors() {
    await connected(async (c) => {
      const cursor = c.query(new Cursor('select i, repeat(\'x\', i) as v from generate_series(1, $1) i', [7]));
      for (let i = 0; i < 4; i++) await attempt(`read ${i}`, () => cursor.read(3));
      await cursor.close();
      const early = c.query(new Cursor('select i from generate_series(1, 100000) i'));
      await attempt('some', async () => (await early.read(2)).map((r) => r.i));
      await early.close();
      await attempt('after', () => rows(c, 'select 1 as a'));
      const wrong = c.query(new Cursor('select 1 / (3 - i) as v from generate_series(1, 5) i'));
      await attempt('fails', () => wrong.read(10));
      await attempt('after the failure', () => rows(c, 'select 2 as a'));
    });
  },

  async copies() {
    await connected(async (c) => {
      await c.query('create table copied (id int, v text)');
      const lines = Array.from({ length: 20000 }, (_, i) => `${i}\tvalue ${i}\n`);
      await attempt('in', async () => {
        const to = c.query(copy.from('copy copied from stdin'));
        await pipeline(Readable.from(lines), to);
        return to.rowCount;
      });
      await attempt('out', async () => {
        let size = 0;
        for await (const chunk of c.query(copy.to('copy (select * from copied order by id) to stdout'))) size += chunk.length;
        return size;
      });
      await attempt('refused', async () => {
        await pipeline(Readable.from(['1\tx\n', 'no number\tx\n']), c.query(copy.from('copy copied from stdin')));
      });
      await attempt('left', () => rows(c, 'select count(*)::int as n from copied'));
    });
  },

  async listen() {
    await connected(async (c) => {
      const heard = [];
      let all;
      const done = new Promise((resolve) => { all = resolve; });
      c.on('notification', (m) => {
        heard.push([m.channel, m.payload, m.processId === c.processID]);
        if (heard.length === 3) all();
      });
      await c.query('listen news');
      await connected(async (other) => {
        await other.query("notify news, 'one'");
        await other.query("select pg_notify('news', $1)", ['two']);
      });
      await c.query("notify news, 'own'");
      await done;
      say('heard', heard);
      await c.query('unlisten news');
    });
  },

  async large() {
    await connected(async (c) => {
      const big = 'ü'.repeat(2 << 20);
      await attempt('parameter', () => rows(c, 'select length($1::text) as n, octet_length($1::text) as o', [big]));
      await attempt('literal', () => rows(c, `select length('${big}') as n`));
      await attempt('value', async () => (await rows(c, "select repeat('ab', 3000000) as v"))[0].v.length);
    });
  },

  async ends() {
    const c = new Client();
    const seen = [];
    c.on('error', (e) => seen.push(e.code || e.message));
    await c.connect();
    await attempt('ended by itself', () => c.query('select pg_terminate_backend(pg_backend_pid())'));
    await attempt('after', () => c.query('select 1').catch((e) => [e.message]));
    await c.end().catch(() => {});
    await connected(async (again) => {
      await attempt('canceled by itself', () => again.query('select pg_cancel_backend(pg_backend_pid()), pg_sleep(5)'));
      await attempt('then', () => rows(again, 'select 1 as a'));
    });
  },
};

types.setTypeParser(1114, (v) => v);

(async () => {
  for (check of Object.keys(checks)) await checks[check]();
  console.log('all checks ran');
})().catch((e) => {
  console.log(`${check}: ${e.stack}`);
  process.exitCode = 1;
});
