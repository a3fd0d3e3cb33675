// What the pages share. What the service tells is set as text, never as markup; rows and cells are kept and
// changed, so that what is selected, read aloud or has the focus stays.
//
// A page's own script has show(what was told), and staleAfter: milliseconds without news.
'use strict';

let last = null, heard = 0, frozen = false;

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

const targets = { any: 'pgweir', replica: 'replica', primary: 'primary' };

// A column is [name, value of a row, class, kind]; the first is the row's heading. Kinds: text, code, tag, share,
// and link, to the page of the row's statement.
function cell(td, value, kind, row) {
  if (!kind) { put(td, String(value)); return; }
  if (kind === 'link') {
    let a = td.firstElementChild;
    if (!a) { a = make('a'); a.append(make('code')); td.append(a); }
    if (row.fingerprint) attr(a, 'href', 'statement.html?' + new URLSearchParams({ database: row.database, fingerprint: row.fingerprint })); else a.removeAttribute('href');
    put(a.firstElementChild, String(value));
    return;
  }
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
    if (!empty) { if (note) note.remove(); return; }
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

function tile(id, value, unit) {
  const el = $(id);
  if (!el.firstChild) el.append('', make('span', 'unit'));
  if (el.childNodes.length !== 2) { el.textContent = ''; el.append(document.createTextNode(''), make('span', 'unit')); }
  if (el.childNodes[0].data !== value) el.childNodes[0].data = value;
  put(el.childNodes[1], unit ? ' ' + unit : '');
}

function measure(id, ms) {
  const [n, ...unit] = time(ms).split(' ');
  tile(id, n, unit.join(' '));
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
// chart draws points from right to left, of which there is room for some. Values below 0 are not there.
function chart(c, points, room) {
  const fig = $(c.id);
  if (!c.svg) {
    const caption = fig.querySelector('figcaption');
    c.series.forEach(([, label], i) => caption.append(make('span', 'key s' + i, label)));
    c.svg = svg('svg', { class: 'chart', viewBox: `0 0 ${room - 1} 100`, preserveAspectRatio: 'none', role: 'img' });
    for (const y of [1, 50, 99]) c.svg.append(svg('line', { x1: 0, x2: room, y1: y, y2: y }));
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
    let d = '', first = 0, up = true;
    points.forEach((p, n) => {
      const x = room - points.length + n;
      if (n === 0) first = x;
      if (p[k] < 0) { up = true; return; }
      d += (up ? 'M' : 'L') + x + ' ' + (99 - 98 * height(p[k])).toFixed(2) + (up ? 'h0' : '');
      up = false;
    });
    c.paths[i].line.setAttribute('d', d);
    if (c.paths[i].under && d) c.paths[i].under.setAttribute('d', `${d}L${room - 1} 99L${first} 99Z`);
  });
  const now = points[points.length - 1];
  if (now) attr(c.svg, 'aria-label', `${c.name}, last five minutes. Now: ` + c.series.map(([k, label]) => `${label} ${c.show(now[k])}`).join(', ') + '. The figures are below.');
}

// news shows what was told.
function news(told) {
  last = told;
  heard = Date.now();
  if (!frozen && !document.hidden) show(last);
  live();
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
addEventListener('resize', () => { if (last && !frozen) show(last); }); // what fits is other
setInterval(live, 1000);
