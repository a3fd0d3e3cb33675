//go:build race

package main

// raced: the race detector has a process take about twice its memory.
const raced = true
