// validate37 FILE...: judges recorded histories with etcd's own validate, which etcd's robustness tests use: Porcupine with
// etcd's model, then watches and serializable reads against what was persisted.
//
// The files are those of cairn_check_history (sim/history/record_json.h). It prints for each "FILE: right" or "FILE: WRONG:
// why", and ends with 1 if one was wrong. What etcd's model does not know is left out: serializable reads of the newest
// revision, deletions of ranges, filtered watches, refused requests; a transaction that compares something else ends the
// program. A history must begin with the empty store and show it by a read.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

const timeout = 5 * time.Minute

type operation struct {
	Client   int
	Rpc      string
	Call     int64
	Return   int64
	Request  []byte
	Response []byte
	Code     int
	Error    string
	Outcome  string
}

type watch struct {
	Client    int
	Request   []byte
	Responses []struct {
		Time     int64
		Response []byte
	}
}

type line struct {
	Operation *operation
	Watch     *watch
	Entry     *struct {
		Type  int
		Void  bool
		Bytes []byte
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func parsed[M proto.Message](bytes []byte, into M) M {
	must(proto.Unmarshal(bytes, into))
	return into
}

func keyValue(kv *mvccpb.KeyValue) model.ValueRevision {
	return model.ValueRevision{Value: model.ToValueOrHash(string(kv.Value)), ModRevision: kv.ModRevision, Version: kv.Version}
}

func rangeAnswer(response *pb.RangeResponse) model.RangeResponse {
	answer := model.RangeResponse{KVs: []model.KeyValue{}, Count: response.Count}
	for _, kv := range response.Kvs {
		answer.KVs = append(answer.KVs, model.KeyValue{Key: string(kv.Key), ValueRevision: keyValue(kv)})
	}
	return answer
}

func rangeOptions(r *pb.RangeRequest) model.RangeOptions {
	return model.RangeOptions{Start: string(r.Key), End: string(r.RangeEnd), Limit: r.Limit, KeysOnly: r.KeysOnly}
}

func putOperation(r *pb.PutRequest) model.EtcdOperation {
	return model.EtcdOperation{Type: model.PutOperation, Put: model.PutOptions{
		Key: string(r.Key), Value: model.ToValueOrHash(string(r.Value)), LeaseID: r.Lease}}
}

func deleteOperation(r *pb.DeleteRangeRequest) model.EtcdOperation {
	return model.EtcdOperation{Type: model.DeleteOperation, Delete: model.DeleteOptions{Key: string(r.Key)}}
}

func operations(ops []*pb.RequestOp) (out []model.EtcdOperation) {
	for _, op := range ops {
		switch {
		case op.GetRequestRange() != nil:
			out = append(out, model.EtcdOperation{Type: model.RangeOperation, Range: rangeOptions(op.GetRequestRange())})
		case op.GetRequestPut() != nil:
			out = append(out, putOperation(op.GetRequestPut()))
		case op.GetRequestDeleteRange() != nil:
			out = append(out, deleteOperation(op.GetRequestDeleteRange()))
		default:
			panic("a nested transaction: etcd's model does not know it")
		}
	}
	return out
}

func one(op model.EtcdOperation) *model.EtcdRequest {
	return &model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{OperationsOnSuccess: []model.EtcdOperation{op}}}
}

// nil: etcd's model does not know it.
func requestOf(r *pb.InternalRaftRequest) *model.EtcdRequest {
	switch {
	case r.Range != nil:
		if r.Range.Serializable {
			return nil
		}
		return &model.EtcdRequest{Type: model.Range,
			Range: &model.RangeRequest{RangeOptions: rangeOptions(r.Range), Revision: r.Range.Revision}}
	case r.Put != nil:
		return one(putOperation(r.Put))
	case r.DeleteRange != nil:
		if len(r.DeleteRange.RangeEnd) > 0 {
			panic("a deletion of a range: etcd's model does not know it")
		}
		return one(deleteOperation(r.DeleteRange))
	case r.Txn != nil:
		conditions := []model.EtcdCondition{}
		for _, compare := range r.Txn.Compare {
			condition := model.EtcdCondition{Key: string(compare.Key)}
			switch {
			case compare.Result == pb.Compare_EQUAL && compare.Target == pb.Compare_MOD:
				condition.ExpectedRevision = compare.GetModRevision()
			case compare.Result == pb.Compare_EQUAL && compare.Target == pb.Compare_VERSION && compare.GetVersion() > 0:
				condition.ExpectedVersion = compare.GetVersion()
			default:
				panic("a comparison that etcd's model does not know: " + compare.String())
			}
			conditions = append(conditions, condition)
		}
		return &model.EtcdRequest{Type: model.Txn, Txn: &model.TxnRequest{Conditions: conditions,
			OperationsOnSuccess: operations(r.Txn.Success), OperationsOnFailure: operations(r.Txn.Failure)}}
	case r.LeaseGrant != nil:
		return &model.EtcdRequest{Type: model.LeaseGrant, LeaseGrant: &model.LeaseGrantRequest{LeaseID: r.LeaseGrant.ID}}
	case r.LeaseRevoke != nil:
		return &model.EtcdRequest{Type: model.LeaseRevoke, LeaseRevoke: &model.LeaseRevokeRequest{LeaseID: r.LeaseRevoke.ID}}
	case r.Compaction != nil:
		return &model.EtcdRequest{Type: model.Compact, Compact: &model.CompactRequest{Revision: r.Compaction.Revision}}
	}
	return nil
}

func proposalOf(o *operation) *pb.InternalRaftRequest {
	out := &pb.InternalRaftRequest{}
	switch o.Rpc {
	case "Range":
		out.Range = parsed(o.Request, &pb.RangeRequest{})
	case "Put":
		out.Put = parsed(o.Request, &pb.PutRequest{})
	case "DeleteRange":
		out.DeleteRange = parsed(o.Request, &pb.DeleteRangeRequest{})
	case "Txn":
		out.Txn = parsed(o.Request, &pb.TxnRequest{})
	case "Compact":
		out.Compaction = parsed(o.Request, &pb.CompactionRequest{})
	case "LeaseGrant":
		out.LeaseGrant = parsed(o.Request, &pb.LeaseGrantRequest{})
		if len(o.Response) > 0 && out.LeaseGrant.ID == 0 {
			out.LeaseGrant.ID = parsed(o.Response, &pb.LeaseGrantResponse{}).ID
		}
	case "LeaseRevoke":
		out.LeaseRevoke = parsed(o.Request, &pb.LeaseRevokeRequest{})
	}
	return out
}

func responseOf(o *operation) (out model.MaybeEtcdResponse) {
	if o.Outcome == "unknown" || o.Error != "" {
		text := strings.TrimPrefix(o.Error, "etcdserver: ")
		if o.Rpc == "Compact" && strings.HasPrefix(text, "mvcc: required revision") {
			return model.MaybeEtcdResponse{EtcdResponse: model.EtcdResponse{ClientError: text}}
		}
		return model.MaybeEtcdResponse{Error: "no answer: " + o.Error}
	}
	switch o.Rpc {
	case "Range":
		response := parsed(o.Response, &pb.RangeResponse{})
		answer := rangeAnswer(response)
		out.Range, out.Revision = &answer, response.Header.GetRevision()
	case "Put":
		response := parsed(o.Response, &pb.PutResponse{})
		out.Txn, out.Revision = &model.TxnResponse{Results: []model.EtcdOperationResult{{}}}, response.Header.GetRevision()
	case "DeleteRange":
		response := parsed(o.Response, &pb.DeleteRangeResponse{})
		out.Txn = &model.TxnResponse{Results: []model.EtcdOperationResult{{Deleted: response.Deleted}}}
		out.Revision = response.Header.GetRevision()
	case "Txn":
		response := parsed(o.Response, &pb.TxnResponse{})
		results := []model.EtcdOperationResult{}
		for _, op := range response.Responses {
			result := model.EtcdOperationResult{Deleted: op.GetResponseDeleteRange().GetDeleted()}
			if op.GetResponseRange() != nil {
				result.RangeResponse = rangeAnswer(op.GetResponseRange())
			}
			results = append(results, result)
		}
		out.Txn = &model.TxnResponse{Failure: !response.Succeeded, Results: results}
		out.Revision = response.Header.GetRevision()
	case "LeaseGrant":
		out.LeaseGrant = &model.LeaseGrantResponse{}
		out.Revision = parsed(o.Response, &pb.LeaseGrantResponse{}).Header.GetRevision()
	case "LeaseRevoke":
		out.LeaseRevoke = &model.LeaseRevokeResponse{}
		out.Revision = parsed(o.Response, &pb.LeaseRevokeResponse{}).Header.GetRevision()
	case "Compact":
		out.Compact, out.Revision = &model.CompactResponse{}, model.RevisionForNonLinearizableResponse
	}
	return out
}

// ok is false: etcd's validate does not know such a watch.
func watchOf(w *watch) (out model.WatchOperation, ok bool) {
	request := parsed(w.Request, &pb.WatchCreateRequest{})
	key, end := string(request.Key), string(request.RangeEnd)
	out.Request = model.WatchRequest{Key: key, Revision: request.StartRevision, WithPrevKV: request.PrevKv}
	switch {
	case len(request.Filters) > 0:
		return out, false
	case key == "\x00" && end == "\x00":
		out.Request.Key, out.Request.WithPrefix = "", true
	case end != "":
		if end != clientv3.GetPrefixRangeEnd(key) {
			return out, false
		}
		out.Request.WithPrefix = true
	}
	for _, one := range w.Responses {
		response := parsed(one.Response, &pb.WatchResponse{})
		if response.Created {
			continue
		}
		next := model.WatchResponse{Revision: response.Header.GetRevision(), Time: time.Duration(one.Time)}
		if response.Canceled {
			next.Error = fmt.Sprintf("cancelled: %q, compacted %d", response.CancelReason, response.CompactRevision)
		} else {
			next.IsProgressNotify = len(response.Events) == 0
		}
		for _, event := range response.Events {
			seen := model.WatchEvent{}
			seen.Type, seen.Key, seen.Revision = model.PutOperation, string(event.Kv.Key), event.Kv.ModRevision
			if event.Type == mvccpb.Event_DELETE {
				seen.Type = model.DeleteOperation
			}
			seen.Value = model.ToValueOrHash(string(event.Kv.Value))
			seen.IsCreate = event.Type == mvccpb.Event_PUT && event.Kv.CreateRevision == event.Kv.ModRevision
			if event.PrevKv != nil {
				previous := keyValue(event.PrevKv)
				seen.PrevValue = &previous
			}
			next.Events = append(next.Events, seen)
		}
		out.Responses = append(out.Responses, next)
	}
	return out, true
}

func check(path string) (err error) {
	// What it panics about, an event of a revision that never was, is a verdict too.
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("panic: %v", problem)
		}
	}()
	file, err := os.Open(path)
	must(err)
	defer file.Close()
	clients := map[int]*report.ClientReport{}
	order := []int{}
	client := func(id int) *report.ClientReport {
		if clients[id] == nil {
			clients[id] = &report.ClientReport{ClientID: id}
			order = append(order, id)
		}
		return clients[id]
	}
	persisted := []model.EtcdRequest{}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, math.MaxInt32)
	for scanner.Scan() {
		var next line
		must(json.Unmarshal(scanner.Bytes(), &next))
		switch {
		case next.Operation != nil:
			o := next.Operation
			request := requestOf(proposalOf(o))
			if request == nil || o.Outcome == "refused" {
				continue
			}
			// In virtual time an answer may come at the moment of its question.
			o.Return = max(o.Return, o.Call+1)
			r := client(o.Client)
			r.KeyValue = append(r.KeyValue, porcupine.Operation{ClientId: o.Client, Input: *request, Call: o.Call,
				Output: responseOf(o), Return: o.Return})
		case next.Watch != nil:
			if w, ok := watchOf(next.Watch); ok {
				r := client(next.Watch.Client)
				r.Watch = append(r.Watch, w)
			}
		case next.Entry != nil && next.Entry.Type == 0 && !next.Entry.Void && len(next.Entry.Bytes) > 0:
			entry := &pb.InternalRaftRequest{}
			// A cluster of 3.4 keeps its members' names and its version in requests of the v2 API.
			if err := proto.Unmarshal(next.Entry.Bytes, entry); err != nil {
				continue
			}
			if request := requestOf(entry); request != nil {
				persisted = append(persisted, *request)
			}
		}
	}
	must(scanner.Err())
	reports := []report.ClientReport{}
	for _, id := range order {
		reports = append(reports, *clients[id])
	}
	result := validate.ValidateAndReturnVisualize(zap.NewNop(), validate.Config{}, reports, persisted, timeout)
	return result.Error()
}

func main() {
	wrong := false
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Printf("%s: WRONG: %s\n", path, strings.ReplaceAll(err.Error(), "\n", " "))
			wrong = true
		} else {
			fmt.Printf("%s: right\n", path)
		}
	}
	if wrong {
		os.Exit(1)
	}
}
