// The status page of the service.
'use strict';

const kept = 300;       // points of the charts, one a second
const staleAfter = 4000;
let points = [];

// reasons says what each is, as docs/routing.md does.
const reasons = {
  none: 'not said', read: 'proved to be a read', write: 'INSERT, UPDATE, DELETE, MERGE, COPY FROM', ddl: 'CREATE, ALTER, DROP, GRANT, …',
  row_lock: 'FOR UPDATE and the like', select_into: 'SELECT INTO makes a table', function: 'a function that is not safe on a replica',
  unknown_function: 'a function the catalog does not know', relation: 'a temporary, unlogged, foreign or unsafe relation',
  unknown_relation: 'a relation the catalog does not know', sequence: 'nextval, setval, currval, lastval', lock: 'advisory locks, LOCK TABLE',
  setting: 'SET, RESET, set_config', utility: 'VACUUM, LISTEN, CALL, DO, …', transaction_control: 'BEGIN, COMMIT, ROLLBACK, savepoints',
  unparsed: 'the parser refused it', empty: 'nothing to run', hint: 'a comment in the statement', rule: 'a rule of the configuration',
  learned: 'a replica refused it before', no_catalog: 'the catalog was not read yet', multi: 'several statements in one string',
  route: 'pgweir.route, or that of the user or database', transaction: 'its transaction is there already',
  isolation: 'an isolation level that a standby refuses', cursor: 'a cursor in a transaction that may write',
  pinned: 'the session is tied to its connection', large: 'a message too large to be kept', function_call: "the protocol's FunctionCall",
  replication: 'a replication connection', no_replica: 'no replica can serve it', freshness: 'no replica was fresh enough in time',
  primary_reads: 'routing.primary_reads is always', retried: 'a replica failed it', local: 'pgweir answered by itself',
  shadow: 'routing.shadow keeps everything there',
};
const charts = [
  { id: 'c-rate', name: 'Statements per second', show: rate, series: [['replica', 'replica', true], ['primary', 'primary', true], ['local', 'pgweir']] },
  { id: 'c-time', name: 'Latency', show: time, log: true, series: [['p50', 'p50'], ['p99', 'p99']] },
  { id: 'c-trouble', name: 'Waits and errors per second', show: rate, series: [['pool', 'for a connection'], ['freshness', 'for freshness'], ['no_primary', 'for a primary'], ['errors', 'errors']] },
];

// figures are the charts for who does not see them: the last minute, by ten seconds.
function figures() {
  const rows = [];
  for (let end = points.length; end > 0 && rows.length < 6; end -= 10) {
    const part = points.slice(Math.max(0, end - 10), end);
    const mean = (k) => part.reduce((s, p) => s + p[k], 0) / part.length;
    const most = (k) => Math.max(...part.map((p) => p[k]));
    rows.push({ at: part[part.length - 1].at, replica: mean('replica'), primary: mean('primary'), local: mean('local'), p50: mean('p50'), p99: most('p99'), pool: mean('pool'), freshness: mean('freshness'), no_primary: mean('no_primary'), errors: mean('errors') });
  }
  table('figures', 'The last minute, ten seconds each', [
    ['until', (p) => clock(p.at)], ['replica/s', (p) => rate(p.replica), 'n'], ['primary/s', (p) => rate(p.primary), 'n'], ['pgweir/s', (p) => rate(p.local), 'n'],
    ['p50', (p) => time(p.p50), 'n'], ['worst p99', (p) => time(p.p99), 'n'], ['waits for a connection/s', (p) => rate(p.pool), 'n'], ['for freshness/s', (p) => rate(p.freshness), 'n'], ['for a primary/s', (p) => rate(p.no_primary), 'n'], ['errors/s', (p) => rate(p.errors), 'n'],
  ], rows, 'Nothing was counted yet.', 0, false);
}

const serverTag = (s) => s.disabled ? 'warn' : s.status === 'serving' ? 'good' : s.status === 'slow' || s.status === 'unknown' || s.status === 'leaving' ? 'warn' : 'bad';
const who = (s) => s.application ? `${s.user} (${s.application})` : s.user;
const stateTag = (s) => s.state === 'waiting' ? 'bad' : s.state === 'idle in transaction' ? 'warn' : 'good';
const target = (r) => r.target;

function sessions(id, caption, age, list, empty, pins) {
  const columns = [
    ['client', (s) => s.id], [age, (s) => time(s.age), 'n'], ['user', who], ['database', (s) => s.database],
    ['state', (s) => s.state, '', stateTag], ['server', (s) => s.server ? `${s.server} #${s.server_pid}` : '–', 'whole'],
  ];
  if (pins) columns.push(['pins', (s) => s.pins || '–']);
  table(id, caption, columns, list.rows, empty, list.all);
}

// notices are only touched when they change, because they are read aloud.
function notices(list) {
  const ul = $('notice-list');
  if (list.length === 0) list = [{ level: 'fine', text: 'Nothing: servers answer, and nobody waits.', next: '', docs: '' }];
  while (ul.children.length > list.length) ul.lastElementChild.remove();
  while (ul.children.length < list.length) { const li = make('li'); li.append(make('strong'), make('span'), make('p', 'next')); ul.append(li); }
  list.forEach((n, i) => {
    const [level, text, next] = ul.children[i].children;
    if (ul.children[i].className !== n.level) ul.children[i].className = n.level;
    put(level, n.level === 'fine' ? '' : n.level);
    put(text, n.text);
    put(next, n.next + (n.docs ? ` docs: ${n.docs}` : ''));
  });
}

function show(s) {
  const ready = $('ready');
  put(ready, s.not_ready ? 'not ready: ' + s.not_ready : 'serving');
  ready.className = 'chip ' + (s.not_ready ? 'bad' : 'good');
  notices(s.notices);
  const p = s.point, all = p.replica + p.primary + p.local;
  tile('t-rate', rate(all));
  measure('t-p50', p.p50);
  measure('t-p99', p.p99);
  tile('t-reads', s.read_share < 0 ? '–' : String(Math.round(s.read_share * 100)), s.read_share < 0 ? '' : '%');
  tile('t-clients', count(s.clients.all));
  tile('t-waiting', count(s.clients.waiting));
  tile('t-idling', count(s.clients.idle_in_transaction));
  charts.forEach((c) => chart(c, points, kept));
  figures();
  const lately = `the last ${Math.round(s.window / 1000)} s`;
  table('times', 'Latency in the last minute', [
    ['served by', (t) => t.target], ['batches', (t) => count(t.batches), 'n'], ['p50', (t) => time(t.p50), 'n'], ['p95', (t) => time(t.p95), 'n'], ['p99', (t) => time(t.p99), 'n'],
  ], s.times, '', 0, false);
  const clusters = new Set(s.servers.map((v) => v.cluster)).size > 1;
  table('servers', 'Servers', [
    ['server', (v) => clusters ? `${v.cluster}: ${v.address}` : v.address], ['role', (v) => v.role, '', (v) => v.role], ['status', (v) => v.disabled ? v.status + ', disabled' : v.status, '', serverTag],
    ['since', (v) => time(v.since), 'n'], ['behind', (v) => v.role === 'primary' || v.lag < 0 ? '–' : bytes(v.lag), 'n'], ['stale by', (v) => v.role === 'primary' ? '–' : time(v.staleness), 'n'],
    ['transactions/s', (v) => rate(v.rate), 'n'], ['share', (v) => v.share, 'n', 'share'], ['in use', (v) => count(v.load), 'n'],
    ['connections', (v) => v.bound > 0 ? `${v.open} of ${v.bound}` : String(v.open), 'n'], ['because', (v) => v.because || '–', 'whole'],
  ], s.servers, 'No server is known.');
  const sum = s.routes.reduce((n, r) => n + r.lately, 0) || 1;
  table('routes', 'Statements by target and reason', [
    ['where', (r) => targets[r.target], '', target], ['reason', (r) => r.reason], ['meaning', (r) => reasons[r.reason] || '', 'quiet whole'],
    ['lately', (r) => r.lately / sum, 'n', 'share'], ['of late', (r) => count(r.lately), 'n'], ['in all', (r) => count(r.all), 'n'],
  ], s.routes, 'No statement has run yet.');
  put(document.querySelector('#routes .docs'), `Lately: ${lately}. docs: routing`);
  table('pools', 'Pools by database and user', [
    ['database', (p) => p.database], ['user', (p) => p.user], ['mode', (p) => p.mode], ['clients', (p) => count(p.clients), 'n'], ['waiting', (p) => count(p.waiting), 'n'],
    ['longest', (p) => p.waiting ? time(p.max_wait) : '–', 'n'], ['in use', (p) => count(p.used), 'n'], ['idle', (p) => count(p.idle), 'n'], ['size', (p) => p.size || '–', 'n'],
  ], s.pools.rows, 'No client has come yet.', s.pools.all);
  sessions('waiting', 'Waiting clients', 'for', s.waiting, 'Nobody waits.');
  sessions('transactions', 'Transactions by age', 'age', s.transactions, 'No transaction is open.');
  sessions('pins', 'Sessions tied to a server connection', 'for', s.pins, 'No session is tied to a server connection.', true);
  statements(s.statements);
  table('unfiltered', "Statements without a tenant's filter", [
    ['severity', (u) => u.severity, '', (u) => u.severity], ['kind', (u) => u.kind], ['statement', (u) => u.statement, 'wide', 'code'], ['tables', (u) => u.tables],
    ['count', (u) => count(Number(u.count)), 'n'], ['user', (u) => u.application ? `${u.user} (${u.application})` : u.user],
  ], s.unfiltered.rows, "None was found; there is nothing to find without tenant.columns.", s.unfiltered.all);
  table('events', 'Recent events, the newest first', [
    ['time', (e) => new Date(e.at).toLocaleTimeString('en-GB'), 'n'], ['level', (e) => e.level, '', (e) => e.level], ['event', (e) => e.name || '–'],
    ['what', (e) => e.message + (e.times > 1 ? ` (${e.times} times)` : ''), 'wide'], ['details', (e) => (e.fields || []).join('  ') || '–', 'wide', 'code'],
  ], s.events, 'Nothing has happened yet.', 0);
  put($('about'), `pgweir ${s.version}, up for ${time(s.up)}`);
}

function statements(list) {
  if (!list) {
    table('statements', 'Top statements', [], [], 'They are not counted. To see them here, set insight.enabled: true in the configuration and restart.');
    return;
  }
  if ($('x-statements').querySelector('a:focus')) return; // a row would become another under who is about to open it
  table('statements', 'Statements by the time they took', [
    ['statement', (r) => r.statement, 'wide', 'link'], ['database', (r) => r.database], ['where', (r) => r.target, '', target], ['calls', (r) => count(r.calls), 'n'],
    ['total', (r) => time(r.total), 'n'], ['share', (r) => r.share, 'n', 'share'], ['p50', (r) => time(r.p50), 'n'], ['p95', (r) => time(r.p95), 'n'], ['waited', (r) => time(r.waited), 'n'], ['rows', (r) => count(r.rows), 'n'],
  ], list.rows, 'No statement has run yet.', list.all);
}

// The stream. A browser comes again by itself when it breaks, but not when it is refused.
function listen() {
  const source = new EventSource('events');
  source.addEventListener('history', (e) => { points = JSON.parse(e.data) || []; });
  source.addEventListener('status', (e) => {
    const told = JSON.parse(e.data);
    points.push(told.point);
    if (points.length > kept) points.shift();
    news(told);
  });
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 2000); }
  });
}

listen();
