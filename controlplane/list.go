package controlplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"github.com/sagelocal/sagelocal/sdkcompat"
	"github.com/sagelocal/sagelocal/store"
)

// listRequest is what the List operations have in common.
type listRequest[T any] struct {
	operation    string // part of the token's fingerprint
	sortBy       string // CreationTime when empty
	sortOrder    types.OrderKey
	maxResults   *int32
	nextToken    *string
	nameContains *string
	statusEquals string
	created      window
	modified     window

	name   func(*T) string
	time   func(*T) *timestamps
	status func(*T) string // nil where there is no StatusEquals
	match  func(*T) bool   // further filters, which operation must name; nil for none
}

// window is a pair of *After and *Before filters. After includes its moment and
// Before does not (API model documentation of CreationTimeAfter).
type window struct{ after, before *time.Time }

func (w window) holds(t *time.Time) bool {
	if t == nil {
		return w == window{}
	}
	return (w.after == nil || !t.Before(*w.after)) && (w.before == nil || t.Before(*w.before))
}

type timestamps struct{ created, modified *time.Time }

type listPage[T any] struct {
	items []*T
	next  *string
}

// defaultMaxResults is the page size when MaxResults is absent (API_ListEndpoints).
const defaultMaxResults = 10

// list walks the order that SortBy names from where the token left off, so the
// first page of many costs what the first page of few costs.
func list[T any](p *Plane, ctx context.Context, table *store.Table[T], r listRequest[T]) (listPage[T], error) {
	q := store.Query[T]{
		Index:       r.index(),
		Descending:  r.sortOrder != types.OrderKeyAscending,
		After:       aws.ToString(r.nextToken),
		Fingerprint: r.fingerprint(),
		Keep:        r.keep(),
		Limit:       int(aws.ToInt32(r.maxResults)),
	}
	if q.Limit == 0 {
		q.Limit = defaultMaxResults
	}
	switch {
	case q.Index == byCreation:
		q.From, q.To = timeBound(r.created.after), timeBound(r.created.before)
	case q.Index == byStatus && r.statusEquals != "":
		q.From = store.StringKey(r.statusEquals)
		q.To = store.PrefixEnd(q.From)
	}
	var page listPage[T]
	err := p.DB.View(func(tx *store.Tx) error {
		items, next, err := table.List(tx, store.Scope(scopeOf(ctx)), q)
		if errors.Is(err, store.ErrBadToken) {
			return sdkcompat.InvalidPaginationToken.Error()
		}
		page.items = items
		if next != "" {
			page.next = &next
		}
		return err
	})
	return page, err
}

// index is that of SortBy; empty by name, the order of the records themselves.
func (r *listRequest[T]) index() string {
	switch r.sortBy {
	case "":
		return byCreation
	case string(types.EndpointSortKeyName): // the same in every SortBy
		return ""
	}
	return r.sortBy
}

// timeBound is the index key of a bound on CreationTime; nil for none.
func timeBound(t *time.Time) []byte {
	if t == nil {
		return nil
	}
	return store.TimeKey(*t)
}

func (r *listRequest[T]) keep() func(*T) bool {
	contains := strings.ToLower(aws.ToString(r.nameContains))
	return func(rec *T) bool {
		t := r.time(rec)
		return r.created.holds(t.created) && r.modified.holds(t.modified) &&
			(contains == "" || strings.Contains(strings.ToLower(r.name(rec)), contains)) &&
			(r.statusEquals == "" || r.status(rec) == r.statusEquals) &&
			(r.match == nil || r.match(rec))
	}
}

// fingerprint binds a token to its filters: continuing with others would skip or
// repeat entries, so such a token is refused. MaxResults may change from page
// to page.
func (r *listRequest[T]) fingerprint() string {
	moment := func(t *time.Time) int64 {
		if t == nil {
			return 0
		}
		return t.UnixMilli()
	}
	return fmt.Sprintf("%s|%s|%s|%d|%d|%d|%d", r.operation, aws.ToString(r.nameContains), r.statusEquals,
		moment(r.created.after), moment(r.created.before), moment(r.modified.after), moment(r.modified.before))
}
