package config

import "time"

// Off is the value of a timeout that is written "off".
const Off = time.Duration(-1)
