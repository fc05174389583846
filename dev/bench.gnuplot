# SPDX-License-Identifier: GPL-2.0
#
# Cost and memory against the size that is set, for dev/bench-plot.
# Variables: dir, with *.dat, out, where the pictures go, and base, the kernel.
set terminal svg size 800,500 font "sans,13" background "white"
set logscale x 2
set logscale y 10
set xtics ("4 KiB" 2**12, "64 KiB" 2**16, "1 MiB" 2**20, "16 MiB" 2**24, \
	"256 MiB" 2**28, "4 GiB" 2**32, "64 GiB" 2**36, "1 TiB" 2**40)
set xrange [2**12:2**40]
set grid
set key top left
set style data linespoints

set output out."cost.svg"
set title "Setting a range private, nothing mapped but where noted"
set ylabel "instructions"
set format y "10^{%L}"
set yrange [1000:1e12]
plot dir."set-peer.dat" title "Linux 6.12" pt 5, \
     dir."set-series.dat" title base." with the series" pt 7, \
     dir."live-series.dat" title base." with the series, guest has page tables" pt 9

# A logarithm has no zero: what takes no page of slab is drawn as 1 kB.
set output out."memory.svg"
set title "Memory that a uniform private range takes"
set ylabel "slab, kB (less than a page is drawn as 1)"
set yrange [0.5:1e7]
plot dir."slab-peer.dat" using 1:($2 > 1 ? $2 : 1) title "Linux 6.12" pt 5, \
     dir."slab-series.dat" using 1:($2 > 1 ? $2 : 1) title base." with the series" pt 7

set output out."latency.svg"
set title "Longest stall of another thread while a fragmented range is changed"
set xtics ("1 GiB" 2**18, "4 GiB" 2**20, "16 GiB" 2**22)
set xlabel "range in which every other 4 KiB page is private"
set xrange [2**17:2**23]
set format y "%.0f"
set yrange [10000:1e7]
plot dir."stall-set.dat" title "set all private" pt 5, \
     dir."stall-clear.dat" title "clear" pt 7, \
     dir."stall-update.dat" title "update each page" pt 9, \
     dir."stall-update_same.dat" title "update that changes nothing" pt 11, \
     dir."stall-close_vm.dat" title "close the VM" pt 13
