// The status page. What the service tells is set as text, never as markup; rows and cells are kept and
// changed, so that what is selected, read aloud or has the focus stays.
'use strict';

const kept = 300;       // points of the charts, one a second
const staleAfter = 4000; // milliseconds without a message
let points = [], last = null, heard = 0, frozen = false;

const $ = (id) => document.getElementById(id);

// put sets what has changed of an element.
function put(el, text) { if (el.textContent !== text) el.textContent = text; return el; }
function attr(el, name, value) { if (el.getAttribute(name) !== value) el.setAttribute(name, value); }
function make(name, cls, text) {
  const el = document.createElement(name);
  if (cls) el.className = cls;
  if (text !== undefined) el.textContent = text;
  return el;
}

// Words for numbers.
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const count = (n) => n < 100000 ? whole.format(n) : short.format(n);
const rate = (n) => n === 0 ? '0' : n < 10 ? n.toFixed(1) : count(Math.round(n));
const percent = (p) => p > 0 && p < 0.01 ? '<1 %' : Math.round(p * 100) + ' %';
function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + ' ' + units[i];
}
function time(ms) {
  if (ms < 0) return '–';
  if (ms < 1) return ms === 0 ? '0' : Math.round(ms * 1000) + ' µs';
  if (ms < 10) return ms.toFixed(1) + ' ms';
  if (ms < 1000) return Math.round(ms) + ' ms';
  const s = ms / 1000;
  if (s < 60) return (s < 10 ? s.toFixed(1) : Math.round(s)) + ' s';
  if (s < 3600) return Math.floor(s / 60) + ' min ' + Math.round(s % 60) + ' s';
  if (s < 86400) return Math.floor(s / 3600) + ' h ' + Math.floor(s % 3600 / 60) + ' min';
  return Math.floor(s / 86400) + ' d ' + Math.floor(s % 86400 / 3600) + ' h';
}
const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');

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
const targets = { any: 'pgweir', replica: 'replica', primary: 'primary' };

// A column is [name, value of a row, class, kind]; the first is the row's heading. Kinds: text, code, tag, share.
function cell(td, value, kind, row) {
  if (!kind) { put(td, String(value)); return; }
  let el = td.firstElementChild;
  if (!el) { el = make(kind === 'code' ? 'code' : 'span'); td.append(el); }
  if (kind === 'share') {
    el.className = 'share';
    el.style.setProperty('--part', Math.max(0, Math.min(1, value)) * 100 + '%');
    put(el, percent(value));
    return;
  }
  if (kind !== 'code') { const cls = 'tag ' + kind(row); if (el.className !== cls) el.className = cls; }
  put(el, String(value));
}

// table fills the table of a section, or says why there is none.
function table(id, caption, columns, rows, empty, all, plain = true) {
  const box = $('x-' + id);
  let t = box.querySelector('table'), note = box.querySelector('p');
  if (rows.length === 0) {
    if (t) t.remove();
    if (!note) { note = make('p'); box.append(note); }
    note.className = 'empty';
    put(note, empty);
    scrolls(box, caption);
    return;
  }
  if (!t) {
    t = make('table', plain ? 'plain' : 'figures');
    t.setAttribute('role', 'table');
    t.append(make('caption', '', caption));
    const head = t.createTHead().insertRow();
    head.setAttribute('role', 'row');
    for (const [name, , cls] of columns) {
      const th = make('th', cls || '', name);
      th.scope = 'col';
      th.setAttribute('role', 'columnheader');
      head.append(th);
    }
    t.append(make('tbody'));
    t.tBodies[0].setAttribute('role', 'rowgroup');
    t.tHead.setAttribute('role', 'rowgroup');
    box.prepend(t);
  }
  const body = t.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  while (body.rows.length < rows.length) {
    const tr = body.insertRow();
    tr.setAttribute('role', 'row');
    columns.forEach(([name, , cls], i) => {
      const td = make(i === 0 ? 'th' : 'td', cls || '');
      if (i === 0) td.scope = 'row';
      td.setAttribute('role', i === 0 ? 'rowheader' : 'cell');
      td.dataset.name = name;
      tr.append(td);
    });
  }
  rows.forEach((row, r) => columns.forEach(([, value, , kind], c) => {
    const td = body.rows[r].cells[c], v = value(row);
    td.classList.toggle('blank', v === '' || v === '–');
    cell(td, v, kind, row);
  }));
  if (all > rows.length) {
    if (!note) { note = make('p'); box.append(note); }
    note.className = 'docs';
    put(note, `${rows.length} of ${whole.format(all)} are shown.`);
  } else if (note) note.remove();
  scrolls(box, caption);
}

// scrolls lets the keyboard reach what does not fit.
function scrolls(box, caption) {
  if (box.scrollWidth > box.clientWidth + 1) {
    attr(box, 'tabindex', '0'); attr(box, 'role', 'region'); attr(box, 'aria-label', caption + ', to be scrolled');
  } else if (box.hasAttribute('tabindex')) {
    for (const a of ['tabindex', 'role', 'aria-label']) box.removeAttribute(a);
  }
}

// Charts.
const svg = (name, attrs) => {
  const el = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const k in attrs) el.setAttribute(k, attrs[k]);
  return el;
};

// nice is a round number not below n.
function nice(n) {
  if (n <= 0) return 1;
  const p = Math.pow(10, Math.floor(Math.log10(n)));
  for (const f of [1, 2, 5, 10]) if (n <= f * p) return f * p;
  return n;
}

const least = 0.1; // milliseconds: where a logarithmic scale begins
const charts = [
  { id: 'c-rate', name: 'Statements per second', show: rate, series: [['replica', 'replica', true], ['primary', 'primary', true], ['local', 'pgweir']] },
  { id: 'c-time', name: 'Latency', show: time, log: true, series: [['p50', 'p50'], ['p99', 'p99']] },
  { id: 'c-trouble', name: 'Waits and errors per second', show: rate, series: [['pool', 'for a connection'], ['freshness', 'for freshness'], ['no_primary', 'for a primary'], ['errors', 'errors']] },
];

function chart(c) {
  const fig = $(c.id);
  if (!c.svg) {
    const caption = fig.querySelector('figcaption');
    c.series.forEach(([, label], i) => caption.append(make('span', 'key s' + i, label)));
    c.svg = svg('svg', { class: 'chart', viewBox: `0 0 ${kept} 100`, preserveAspectRatio: 'none', role: 'img' });
    for (const y of [1, 50, 99]) c.svg.append(svg('line', { x1: 0, x2: kept, y1: y, y2: y }));
    c.paths = c.series.map(([, , area], i) => {
      const under = area ? svg('path', { class: 'area s' + i }) : null, line = svg('path', { class: 's' + i });
      if (under) c.svg.append(under);
      c.svg.append(line);
      return { under, line };
    });
    const plot = make('div', 'plot');
    c.top = make('span', 'top');
    c.half = make('span', 'half');
    for (const s of [c.top, c.half]) s.setAttribute('aria-hidden', 'true');
    plot.append(c.svg, c.top, c.half);
    const times = make('div', 'times');
    times.append(make('span', '', '5 min ago'), make('span', '', 'now'));
    times.setAttribute('aria-hidden', 'true');
    fig.append(plot, times);
  }
  const highest = Math.max(...points.map((p) => Math.max(...c.series.map(([k]) => p[k]))), 0);
  const most = c.log ? Math.pow(10, Math.ceil(Math.log10(Math.max(highest, 10 * least)))) : nice(highest);
  const height = (v) => c.log ? Math.log(Math.max(v, least) / least) / Math.log(most / least) : v / most;
  put(c.top, c.show(most));
  put(c.half, c.show(c.log ? Math.sqrt(most * least) : most / 2));
  c.series.forEach(([k], i) => {
    let d = '', first = 0;
    points.forEach((p, n) => {
      const x = kept - points.length + n;
      if (n === 0) first = x;
      d += (n ? 'L' : 'M') + x + ' ' + (99 - 98 * height(p[k])).toFixed(2);
    });
    c.paths[i].line.setAttribute('d', d);
    if (c.paths[i].under && d) c.paths[i].under.setAttribute('d', `${d}L${kept - 1} 99L${first} 99Z`);
  });
  const now = points[points.length - 1];
  if (now) attr(c.svg, 'aria-label', `${c.name}, last five minutes. Now: ` + c.series.map(([k, label]) => `${label} ${c.show(now[k])}`).join(', ') + '. The figures are below.');
}

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

function tile(id, value, unit) {
  const el = $(id);
  if (!el.firstChild) el.append('', make('span', 'unit'));
  if (el.childNodes.length !== 2) { el.textContent = ''; el.append(document.createTextNode(''), make('span', 'unit')); }
  if (el.childNodes[0].data !== value) el.childNodes[0].data = value;
  put(el.childNodes[1], unit ? ' ' + unit : '');
}

function show(s) {
  const ready = $('ready');
  put(ready, s.not_ready ? 'not ready: ' + s.not_ready : 'serving');
  ready.className = 'chip ' + (s.not_ready ? 'bad' : 'good');
  notices(s.notices);
  const p = s.point, all = p.replica + p.primary + p.local;
  tile('t-rate', rate(all));
  for (const [id, v] of [['t-p50', p.p50], ['t-p99', p.p99]]) { const [n, unit] = time(v).split(' '); tile(id, n, unit); }
  tile('t-reads', s.read_share < 0 ? '–' : String(Math.round(s.read_share * 100)), s.read_share < 0 ? '' : '%');
  tile('t-clients', count(s.clients.all));
  tile('t-waiting', count(s.clients.waiting));
  tile('t-idling', count(s.clients.idle_in_transaction));
  charts.forEach(chart);
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
  table('statements', 'Statements by the time they took', [
    ['statement', (r) => r.statement, 'wide', 'code'], ['database', (r) => r.database], ['where', (r) => r.target, '', target], ['calls', (r) => count(r.calls), 'n'],
    ['total', (r) => time(r.total), 'n'], ['share', (r) => r.share, 'n', 'share'], ['p50', (r) => time(r.p50), 'n'], ['p95', (r) => time(r.p95), 'n'], ['waited', (r) => time(r.waited), 'n'], ['rows', (r) => count(r.rows), 'n'],
  ], list.rows, 'No statement has run yet.', list.all);
}

// The stream. A browser comes again by itself when it breaks, but not when it is refused.
function listen() {
  const source = new EventSource('events');
  source.addEventListener('history', (e) => { points = JSON.parse(e.data) || []; });
  source.addEventListener('status', (e) => {
    last = JSON.parse(e.data);
    heard = Date.now();
    points.push(last.point);
    if (points.length > kept) points.shift();
    if (!frozen && !document.hidden) show(last);
    live();
  });
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 2000); }
  });
}

function live() {
  const stale = Date.now() - heard > staleAfter;
  $('live').classList.toggle('stale', stale);
  put($('live'), frozen ? 'frozen' : stale ? (heard ? 'no news since ' + clock(heard) : 'no news') : 'live, ' + clock(last.at));
}

$('freeze').addEventListener('click', () => {
  frozen = !frozen;
  attr($('freeze'), 'aria-pressed', String(frozen));
  put($('freeze'), frozen ? 'Go on' : 'Freeze');
  if (!frozen && last) show(last);
  live();
});
document.addEventListener('visibilitychange', () => { if (!document.hidden && last && !frozen) show(last); });
setInterval(live, 1000);
listen();
