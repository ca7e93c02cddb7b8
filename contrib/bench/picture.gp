# One of README.md's pictures, as SVG: gnuplot -c picture.gp NAME FOLDER PAGE draws FOLDER/NAME.tsv to PAGE/NAME.svg.
# Each policy has one colour and one kind of point in all pictures.

name = ARG1
from = ARG2.'/'.name.'.tsv'
set output ARG3.'/'.name.'.svg'

set encoding utf8
set datafile separator tab
set datafile missing 'nan'
set datafile columnheaders

tall = name eq 'perplexity' ? 600 : 400
set terminal svg size 760,tall fixed noenhanced background 'white' font 'DejaVu Sans,sans-serif,13' name name

ink = '#444444'
set border 3 linecolor rgb ink linewidth 1
set tics nomirror textcolor rgb ink
set grid xtics ytics linecolor rgb '#dddddd' linewidth 1 linetype 1
set xlabel textcolor rgb ink
set ylabel textcolor rgb ink
set title textcolor rgb ink font ',14'
set key outside right center Left reverse textcolor rgb ink samplen 3 spacing 1.3
set style data linespoints
set clip two

set linetype 1 linecolor rgb '#0072b2' linewidth 2.5 pointtype 7 pointsize 0.5 # sink
set linetype 2 linecolor rgb '#d55e00' linewidth 2 pointtype 5 pointsize 0.45 # window
set linetype 3 linecolor rgb '#009e73' linewidth 2 pointtype 9 pointsize 0.6 # separator
set linetype 4 linecolor rgb '#cc79a7' linewidth 2 pointtype 11 pointsize 0.6 # anchor
set linetype 5 linecolor rgb '#777777' linewidth 2 pointtype 13 pointsize 0.6 # dense
set linetype 6 linecolor rgb '#000000' linewidth 2 pointtype 2 pointsize 0.6 # recompute

if (name eq 'perplexity') {
	set multiplot
	set lmargin 10
	set rmargin 18
	stats from using 'end' nooutput
	set xrange [0:STATS_max]
	set format x STATS_max > 4000 ? '%.0s%c' : '%g'

	set tmargin at screen 0.93
	set bmargin at screen 0.50
	set title 'perplexity, as the text goes on'
	set ylabel 'perplexity (log scale)' offset 0.5
	set logscale y
	set yrange [*:*<10000]
	plot from using 'end':'dense' linetype 5 title 'dense', \
		'' using 'end':'window' linetype 2 title 'window', \
		'' using 'end':'anchor' linetype 4 title 'anchor', \
		'' using 'end':'sink' linetype 1 title 'sink', \
		'' using 'end':'separator' linetype 3 title 'separator', \
		'' using 'end':'recompute' linetype 6 title 'recompute'

	set tmargin at screen 0.38
	set bmargin at screen 0.10
	set title 'the same tokens, against sink'
	set ylabel 'nats a token' offset 0.5
	set xlabel 'tokens read'
	unset logscale y
	set yrange [-0.5<*:*<0.5]
	set format y '%+.1f'
	unset key
	set bars 0.5
	plot from using 'end':'dense_over_sink' linetype 5, \
		'' using 'end':'window_over_sink' linetype 2, \
		'' using 'end':'anchor_over_sink' linetype 4, \
		0 linetype 1 with lines, \
		'' using 'end':'separator_over_sink' linetype 3, \
		'' using 'end':'recompute_over_sink':'recompute_error' linetype 6 with yerrorlines
	unset multiplot
}

if (name eq 'time') {
	set title 'time of one token, when the cache is full'
	set xlabel 'budget: tokens that are seen (log scale)'
	set ylabel 'milliseconds, median (log scale)' offset 0.5
	set logscale xy
	stats from using 'budget' nooutput
	set xrange [STATS_min / 1.3:STATS_max * 1.3]
	stats from using 'sink' nooutput
	set yrange [STATS_min / 1.5:*]
	plot from using 'budget':'recompute':xticlabels(stringcolumn('budget')) linetype 6 title 'recompute', \
		'' using 'budget':'sink' linetype 1 title 'sink', \
		'' using 'budget':'sink':(sprintf('%.0f×', column('speedup'))) with labels \
		offset 0,1 font ',11' textcolor rgb '#0072b2' notitle
}

if (name eq 'memory') {
	set title 'memory, as the text goes on'
	set xlabel 'tokens read (log scale)'
	set ylabel 'MiB (log scale)' offset 0.5
	set logscale xy
	set format x '%.0s%c'
	set format y '%.0f'
	set xrange [100:*] noextend
	set yrange [5:*]
	set key width -4
	plot from using 'tokens':'dense_cache' linetype 5 dashtype 2 with lines title 'cache, if dense', \
		'' using 'tokens':'endless' linetype 1 with lines title 'process, novels', \
		'' using 'tokens':'chat' linetype 3 with lines title 'process, chat', \
		'' using 'tokens':'endless_cache' linetype 1 dashtype 3 with lines title 'cache, novels', \
		'' using 'tokens':'chat_cache' linetype 3 dashtype 3 with lines title 'cache, chat'
}

if (name eq 'streameval') {
	set title 'lines that are remembered, by distance'
	set xlabel 'lines back'
	set ylabel 'answers that are right, %' offset 0.5
	set xrange [0:*]
	set yrange [0:100]
	stats from using 'window_end' nooutput
	set arrow from STATS_max, graph 0 to STATS_max, graph 1 nohead linecolor rgb '#999999' dashtype 2 back
	set label 'the window ends' at STATS_max, graph 0.97 offset 0.8,0 textcolor rgb '#777777' font ',11'
	plot from using 'back':'window' linetype 2 title 'window', \
		'' using 'back':'sink' linetype 1 title 'sink', \
		'' using 'back':'separator' linetype 3 title 'separator'
}
