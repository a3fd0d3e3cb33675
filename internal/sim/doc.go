// Package sim plays histories against the real proxy in one process: clients, a network
// that can fail at any byte, and servers that are models (package simpg), in a bubble of
// testing/synctest. Time is virtual and everything is drawn from a seed, so that thousands
// of histories a minute are played and each can be played again. What it checks, how a
// failure is replayed and how to add to it is in docs/testing.md.
package sim
