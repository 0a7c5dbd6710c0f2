# SPDX-License-Identifier: Apache-2.0
"""The page that a comparison is shown on: HTML with all that it needs in one file."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ verdict }}: {{ facts[0][1] }}</title>
<style>
:root { --line: #d9dde3; --soft: #5b6472; --bad: #b3261e; --good: #1b7f3b; --known: #8a94a3; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; background: #fff;
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.bad { color: var(--bad); } .good { color: var(--good); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem 1rem .15rem 0; font-weight: normal; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
th { color: var(--soft); border-bottom: 1px solid var(--line); }
svg { width: 100%; height: 34px; border: 1px solid var(--line); background: #f5f7f9; }
article { display: flex; flex-wrap: wrap; gap: 1rem; padding: 1rem 0;
  border-top: 1px solid var(--line); }
article .picture { flex: 0 0 320px; min-height: 3rem; color: var(--soft); }
article img { max-width: 320px; display: block; border-radius: 4px; }
article .results { flex: 1 1 24rem; }
article h3 { font-size: 1rem; margin: 0; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; margin-top: .5rem; }
.soft { color: var(--soft); }
.row { display: flex; justify-content: space-between; gap: .5rem; margin-top: .3rem; }
.bar { height: 5px; background: #edf0f3; border-radius: 3px; }
.bar i { display: block; height: 5px; border-radius: 3px; background: var(--known); }
.bar i.new { background: var(--bad); }
</style>
</head>
<body>
<h1 class="{{ 'bad' if total else 'good' }}">{{ verdict }}</h1>
<dl>
{% for name, value in facts %}<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}</dl>
{% if total %}
<h2>What changed</h2>
<table>
<tr><th>kind</th><th>frames</th></tr>
{% for kind, count in counts %}<tr><td>{{ kind }}</td><td class="number">{{ count }}</td></tr>
{% endfor %}</table>
<h2>Where</h2>
<svg viewBox="0 0 1000 34" preserveAspectRatio="none" role="img"
 aria-label="changed frames along the bag">
{% for x in marks %}<rect x="{{ x }}" y="0" width="{{ mark_width }}" height="34" fill="#b3261e"/>
{% endfor %}</svg>
<div class="row soft"><span>frame 1</span><span>frame {{ frames }}</span></div>
<h2>Changed frames</h2>
{% if shown|length < total %}<p class="soft">The first {{ shown|length }} of {{ total }}.</p>
{% endif %}
{% for one in shown %}<article>
<div class="picture">{% if one.picture %}<img src="{{ one.picture }}" alt="frame {{ one.number }}">
{% else %}no picture: the frame cannot be read{% endif %}</div>
<div class="results">
<h3>Frame {{ one.number }}: <span class="bad">{{ one.kind }}</span></h3>
<div class="soft">{{ one.topic }}</div>
<div class="sides">
{% for side in one.sides %}<div class="{{ side.name }}">
<div class="soft">{{ side.name }}</div>
{% if side.note %}<div>{{ side.note }}</div>{% endif %}
{% for result in side.results %}<div class="row"><span>{{ result.label }}</span>\
<span>{{ result.score }}</span></div>
<div class="bar"><i{% if result.is_new and side.name == 'found' %} class="new"{% endif %} \
style="width: {{ result.percent }}%"></i></div>
{% endfor %}</div>
{% endfor %}</div>
</div>
</article>
{% endfor %}{% endif %}
</body>
</html>
"""
