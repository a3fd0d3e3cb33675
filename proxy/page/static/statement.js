// The page of one statement, which the query names.
'use strict';

const every = 2000;     // milliseconds between two questions
const staleAfter = 8000;
const kept = 30;        // points of the charts, one in ten seconds

const charts = [
  { id: 'c-calls', name: 'Calls per second', show: rate, series: [['calls', 'calls', true]] },
  { id: 'c-mean', name: 'Mean time', show: time, log: true, series: [['mean', 'mean']] },
];

// figures are the charts for who does not see them, by minutes.
function figures(points) {
  const rows = [];
  for (let end = points.length; end > 0; end -= 6) {
    const part = points.slice(Math.max(0, end - 6), end), sum = (f) => part.reduce((s, p) => s + f(p), 0);
    const calls = sum((p) => p.calls);
    rows.push({ at: part[part.length - 1].at, calls: calls / part.length, mean: calls > 0 ? sum((p) => p.calls * Math.max(p.mean, 0)) / calls : -1, busy: sum((p) => p.busy) / part.length });
  }
  table('figures', 'The last minutes', [
    ['until', (p) => clock(p.at)], ['calls/s', (p) => rate(p.calls), 'n'], ['mean', (p) => time(p.mean), 'n'], ['at a time', (p) => p.busy.toFixed(2), 'n'],
  ], rows, 'Nothing was counted yet.', 0, false);
}

// findings are what is said of the statement, each with what it costs and what to do.
function findings(list) {
  const ul = $('finding-list');
  if (list.length === 0) list = [{ severity: '', kind: '', detail: 'Nothing was found.' }];
  while (ul.children.length > list.length) ul.lastElementChild.remove();
  while (ul.children.length < list.length) {
    const li = make('li'), said = make('p');
    said.append(make('span', 'tag'), ' ', make('strong'), ' ', make('span'));
    li.append(said, make('p', 'cost'), make('code', 'statement'), make('p', 'quiet'));
    ul.append(li);
  }
  list.forEach((f, i) => {
    const [said, cost, sql, idiom] = ul.children[i].children, [tag, kind, detail] = said.children;
    const cls = 'tag ' + f.severity;
    if (tag.className !== cls) tag.className = cls;
    put(tag, f.severity);
    put(kind, f.kind);
    put(detail, f.detail + (f.sure ? ` (${f.sure})` : ''));
    put(cost, f.cost ? 'It costs: ' + f.cost : '');
    put(sql, f.sql || '');
    put(idiom, Object.entries(f.idiom || {}).map(([library, words]) => `${library}: ${words}`).join('; '));
    tag.hidden = !f.severity;
    for (const el of [cost, sql, idiom]) el.hidden = el.textContent === '';
  });
}

function plan(p) {
  const lines = $('plan-lines');
  lines.hidden = !p;
  if (!p) {
    put($('plan-said'), 'None is known. Plans are asked for with insight.plans.enabled, of statements that are proved to read.');
    table('wanted', 'Indexes that are wanted', [], [], '');
    return;
  }
  put($('plan-said'), `By ${p.server}, asked at ${clock(p.asked)}.` + (p.change ? ` It changed at ${clock(p.since)}: ${p.change}.` : ''));
  put(lines.firstElementChild, p.lines.join('\n'));
  scrolls(lines, 'Plan');
  table('wanted', 'Indexes that are wanted', [['wanted index', (w) => w.sql, 'wide', 'code'], ['with it', (w) => w.verdict]], p.wanted, '');
}

const became = { slower: 'bad', faster: 'good', same: 'good' };
const said = { few: ' There are too few calls to tell.', new: ' It was not sent before.', gone: ' It was not sent since.' };

function baseline(b) {
  put($('baseline-said'), !b ? '' : `Against the baseline ${b.name}, which ended at ${clock(b.at)}.` +
    (became[b.status] && b.change ? ` It takes ${b.change.toFixed(2)} times as long as before` + (b.status === 'same' ? ', which may be chance.' : `: ${b.status}.`) : said[b.status] || '') + (b.plan ? ` Executed by: ${b.plan}.` : ''));
  const periods = b ? [['before', b.before], ['after', b.after]] : [];
  table('baseline', 'Before and after the last baseline', [
    ['period', ([name]) => name, '', ([name]) => name === 'after' ? became[b.status] || '' : ''], ['calls', ([, f]) => count(f.calls), 'n'], ['mean', ([, f]) => f.calls ? time(f.mean_ms) : '–', 'n'],
    ['p50', ([, f]) => f.calls ? time(f.p50_ms) : '–', 'n'], ['p95', ([, f]) => f.calls ? time(f.p95_ms) : '–', 'n'], ['rows a call', ([, f]) => f.calls ? rate(f.rows) : '–', 'n'],
    ['on the primary', ([, f]) => f.calls ? percent(f.on_primary) : '–', 'n'],
  ], periods, 'There is no baseline that it can be compared with.');
}

function show(s) {
  put($('statement'), s.statement);
  put($('counted'), `In database ${s.database}; counted since ${new Date(s.since).toLocaleString('en-GB')}.`);
  const sum = (k) => s.on.reduce((n, r) => n + (r[k] || 0), 0), calls = sum('calls'), now = s.points[s.points.length - 1];
  tile('t-rate', now ? rate(now.calls) : '–', '');
  measure('t-mean', now ? now.mean : -1);
  tile('t-busy', now ? now.busy.toFixed(2) : '–', '');
  tile('t-calls', count(calls), '');
  measure('t-total', sum('total_ms'));
  tile('t-rows', calls ? rate(sum('rows') / calls) : '–', '');
  tile('t-errors', count(sum('errors')), '');
  charts.forEach((c) => chart(c, s.points, kept));
  figures(s.points);
  findings(s.findings);
  plan(s.plan);
  baseline(s.baseline);
  table('where', 'Where it ran', [
    ['where', (r) => targets[r.target], '', (r) => r.target], ['calls', (r) => count(r.calls), 'n'], ['errors', (r) => count(r.errors || 0), 'n'], ['total', (r) => time(r.total_ms), 'n'],
    ['p50', (r) => time(r.p50_ms), 'n'], ['p95', (r) => time(r.p95_ms), 'n'], ['waited', (r) => time(r.waited_ms), 'n'], ['rows', (r) => count(r.rows), 'n'], ['data', (r) => bytes(r.bytes), 'n'],
    ['because', (r) => (r.reasons || []).join(', ') || '–'],
  ], s.on, 'It did not run yet.');
  const names = (k) => [...new Set(s.on.flatMap((r) => r[k] || []))].join(', ');
  table('who', 'Who sends it most', [['by', (w) => w[0]], ['most frequent', (w) => w[1], 'wide']],
    [['route', names('routes')], ['application', names('applications')], ['user', names('users')], ['tenant, hashed', names('tenants')]].filter((w) => w[1]), 'Nobody is known yet.');
  table('slow', 'A slow call', [
    ['slow call', (c) => new Date(c.began).toLocaleString('en-GB')], ['took', (c) => time(c.took_ms), 'n'], ['rows', (c) => count(c.rows), 'n'], ['on', (c) => c.target],
    ['application', (c) => c.application || '–'], ['user', (c) => c.user || '–'], ['route', (c) => c.route || '–'], ['tenant, hashed', (c) => c.tenant || '–'],
  ], s.on.filter((r) => r.slow).map((r) => ({ ...r.slow, target: r.target })), '');
  put($('about'), `pgweir ${s.version}, up for ${time(s.up)}`);
}

async function ask() {
  try {
    if (!document.hidden) {
      const answer = await fetch('statement' + location.search);
      if (answer.ok) news(await answer.json());
      else if (answer.status === 404 && !last) put($('statement'), 'This statement is not counted, or not any more.');
    }
  } catch { /* it is asked again; until then the page says that there is no news */ }
  setTimeout(ask, every);
}
ask();
