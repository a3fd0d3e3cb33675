package main

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/router/indexes"
	"github.com/pgweir/pgweir/router/tenant"
)

// What follows is the part of SARIF 2.1.0 that the report needs:
// https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html

const sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	ColumnKind string        `json:"columnKind"`
	Results    []sarifResult `json:"results"`
}

type sarifDriver struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	URI     string      `json:"informationUri"`
	Rules   []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID          string       `json:"id"`
	Description sarifMessage `json:"shortDescription"`
}

type sarifMessage struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Level        string            `json:"level"`
	Message      sarifMessage      `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints,omitempty"`
	Occurrences  int               `json:"occurrenceCount,omitempty"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region *sarifRegion `json:"region,omitempty"`
	} `json:"physicalLocation"`
	Logical []sarifLogical `json:"logicalLocations,omitempty"`
}

type sarifRegion struct {
	StartLine int `json:"startLine"`
}

type sarifLogical struct {
	Name string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}

var sarifLevels = map[string]string{"danger": "error", "warning": "warning", "info": "note"}

// ruleTexts describe what each kind of issue is.
var ruleTexts = map[string]string{
	tenant.KindUnparsed.String():   "A statement whose grammar is not known uses a tenant table",
	tenant.KindForeignKey.String(): "Rows of a tenant table are loaded by foreign key, without a tenant filter",
	tenant.KindLookup.String():     "A row of a tenant table is found by its key, without a tenant filter",
	tenant.KindInsert.String():     "Rows are stored in a tenant table without saying whose they are",
	tenant.KindRowWrite.String():   "A row of a tenant table is changed by its key, without a tenant filter",
	tenant.KindList.String():       "Rows of a tenant table are read without a tenant filter",
	tenant.KindBulkWrite.String():  "Rows of a tenant table are changed without a tenant filter",
	tenant.KindTruncate.String():   "A tenant table is emptied for all tenants",
	tenant.Mismatch:                "A statement names another tenant than its session",

	tenant.GapNoRLS.String():           "A tenant table has no row-level security",
	tenant.GapPolicyOpen.String():      "The policies of a tenant table let every row through",
	tenant.GapRoleBypasses.String():    "A role is not bound by row-level security",
	tenant.GapPolicyOpenUnset.String(): "The policies of a tenant table let every row through while no tenant is set",
	tenant.GapNotForced.String():       "Row-level security does not bind the owner of a tenant table",
	tenant.GapPartition.String():       "A partition of a tenant table has no row-level security of its own",
	tenant.GapNullable.String():        "A tenant column may be null",
	tenant.GapNoPolicy.String():        "No policy of a tenant table permits a command",
	tenant.GapPolicyUnclear.String():   "What the policies of a tenant table let through cannot be judged",
	tenant.GapNoIndex.String():         "No index of a tenant table begins with the tenant column",

	indexRule + indexes.Missing:   "An index that plans want is not there",
	indexRule + indexes.Invalid:   "An index is not valid",
	indexRule + indexes.Unused:    "No server scans an index",
	indexRule + indexes.Duplicate: "Two indexes have the same columns",
	indexRule + indexes.Prefix:    "An index begins with the columns of another",
	indexRule + indexes.Bloated:   "An index takes much more than it needs",
}

// ruleText describes a kind of issue, of the audit, of insights or of indexes.
func ruleText(kind string) string {
	for k := range insight.Kinds {
		if k.String() == kind && ruleTexts[kind] == "" {
			return k.Text()
		}
	}
	return ruleTexts[kind]
}

// sarif is the report for code review tools.
func (r *report) sarif() sarifLog {
	run := sarifRun{ColumnKind: "utf16CodeUnits", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{
		Name: "pgweir", Version: r.version, URI: "https://github.com/pgweir/pgweir", Rules: []sarifRule{},
	}
	d := &run.Tool.Driver
	for i := range r.Issues {
		x := &r.Issues[i]
		rule := slices.IndexFunc(d.Rules, func(s sarifRule) bool { return s.ID == x.Kind })
		if rule < 0 {
			rule = len(d.Rules)
			d.Rules = append(d.Rules, sarifRule{ID: x.Kind, Description: sarifMessage{ruleText(x.Kind)}})
		}
		result := x.sarif(r.place)
		result.RuleIndex = rule
		run.Results = append(run.Results, result)
	}
	return sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}}
}

func (x *issue) sarif(place string) sarifResult {
	text := x.Detail
	if x.Remedy != "" {
		text += ". Remedy: " + x.Remedy
	}
	var at sarifLocation
	at.Physical.Artifact.URI = fileURI(place)
	if x.File != "" {
		at.Physical.Artifact.URI = fileURI(x.File)
		at.Physical.Region = &sarifRegion{x.Line}
	}
	for _, t := range x.Tables {
		at.Logical = append(at.Logical, sarifLogical{t, "table"})
	}
	if x.Role != "" {
		at.Logical = append(at.Logical, sarifLogical{x.Role, "role"})
	}
	s := sarifResult{
		RuleID: x.Kind, Level: sarifLevels[x.Severity], Message: sarifMessage{text},
		Locations: []sarifLocation{at}, Occurrences: x.Count,
	}
	key := x.Fingerprint
	if key == "" {
		key = strings.Join(slices.Concat([]string{x.Kind, x.Role}, x.Tables, x.Policies, x.Commands), " ")
	}
	s.Fingerprints = map[string]string{"pgweir/v1": key}
	return s
}

// fileURI is a path as SARIF wants it: relative ones stay so.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}
