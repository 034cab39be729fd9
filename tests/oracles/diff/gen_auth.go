package main

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const authService = "/etcdserverpb.Auth/"

var (
	userPool = []string{"root", "alice", "bob", "carol", "", "näme", "nopw", "certainly nobody"}
	rolePool = []string{"root", "reader", "writer", "both", "", "rôle"}
)

func (g *gen) userName() string { return pickOf(g, userPool...) }
func (g *gen) roleName() string { return pickOf(g, rolePool...) }

func (g *gen) auth(method string, request, answer proto.Message) step {
	return g.rpc(authService+method, request, answer)
}

// A step of administration.
func (g *gen) authStep() step {
	switch g.random.Intn(16) {
	case 0:
		request := &pb.AuthUserAddRequest{Name: g.userName(), Password: "pw"}
		if request.Name == "nopw" || g.oneIn(5) {
			request.Options = &authpb.UserAddOptions{NoPassword: g.oneIn(2) || request.Name == "nopw"}
		}
		if g.oneIn(8) {
			request.Password = ""
		}
		if g.oneIn(12) {
			request.HashedPassword = pickOf(g, "not base64!", "AAAA", "")
		}
		return g.auth("UserAdd", request, &pb.AuthUserAddResponse{})
	case 1:
		return g.auth("UserGet", &pb.AuthUserGetRequest{Name: g.userName()}, &pb.AuthUserGetResponse{})
	case 2:
		return g.auth("UserList", &pb.AuthUserListRequest{}, &pb.AuthUserListResponse{})
	case 3:
		name := g.userName()
		if g.user != "" && name == "root" { // deleting root would end the episode early
			name = "alice"
		}
		return g.auth("UserDelete", &pb.AuthUserDeleteRequest{Name: name}, &pb.AuthUserDeleteResponse{})
	case 4:
		request := &pb.AuthUserChangePasswordRequest{Name: g.userName(), Password: "pw"}
		if g.oneIn(8) {
			request.HashedPassword = "not base64!"
		}
		return g.auth("UserChangePassword", request, &pb.AuthUserChangePasswordResponse{})
	case 5, 6:
		return g.auth("UserGrantRole", &pb.AuthUserGrantRoleRequest{User: g.userName(), Role: g.roleName()}, &pb.AuthUserGrantRoleResponse{})
	case 7:
		request := &pb.AuthUserRevokeRoleRequest{Name: g.userName(), Role: g.roleName()}
		if request.Name == "root" && request.Role == "root" && !g.oneIn(10) {
			request.Role = "reader"
		}
		return g.auth("UserRevokeRole", request, &pb.AuthUserRevokeRoleResponse{})
	case 8:
		return g.auth("RoleAdd", &pb.AuthRoleAddRequest{Name: g.roleName()}, &pb.AuthRoleAddResponse{})
	case 9:
		return g.auth("RoleGet", &pb.AuthRoleGetRequest{Role: g.roleName()}, &pb.AuthRoleGetResponse{})
	case 10:
		return g.auth("RoleList", &pb.AuthRoleListRequest{}, &pb.AuthRoleListResponse{})
	case 11:
		name := g.roleName()
		if name == "root" && !g.oneIn(10) {
			name = "both"
		}
		return g.deleteRole(name)
	case 12, 13:
		role := g.roleName()
		if len(g.granted[role]) >= permissionsMax {
			return g.revokePermission(role, pickOf(g, g.granted[role]...))
		}
		if g.oneIn(12) {
			return g.auth("RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: role}, &pb.AuthRoleGrantPermissionResponse{})
		}
		perm := &authpb.Permission{PermType: authpb.Permission_Type(g.random.Intn(3))}
		perm.Key, perm.RangeEnd = g.keyRange()
		return g.grantPermission(role, perm)
	case 14:
		role := g.roleName()
		if g.oneIn(2) && len(g.granted[role]) > 0 {
			return g.revokePermission(role, pickOf(g, g.granted[role]...))
		}
		var held permission
		key, end := g.keyRange()
		held.key, held.end = string(key), string(end)
		return g.revokePermission(role, held)
	}
	return g.auth("AuthStatus", &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{})
}

// A permission of a role, by what names it.
type permission struct{ key, end string }

// Go sorts the permissions of a role with more than 12 in an order of its own where their keys are equal, and etcd looks
// at the first of these only: such roles are not made.
const permissionsMax = 12

func (g *gen) grantPermission(role string, perm *authpb.Permission) step {
	s := g.auth("RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: perm}, &pb.AuthRoleGrantPermissionResponse{})
	s.after = func(a, _ *outcome) {
		if a.code == 0 {
			g.granted[role] = append(g.granted[role], permission{string(perm.Key), string(perm.RangeEnd)})
		}
	}
	return s
}

func (g *gen) revokePermission(role string, held permission) step {
	request := &pb.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(held.key), RangeEnd: []byte(held.end)}
	s := g.auth("RoleRevokePermission", request, &pb.AuthRoleRevokePermissionResponse{})
	s.after = func(a, _ *outcome) {
		if a.code == 0 {
			g.granted[role] = slices.DeleteFunc(g.granted[role], func(p permission) bool { return p == held })
		}
	}
	return s
}

func (g *gen) deleteRole(role string) step {
	s := g.auth("RoleDelete", &pb.AuthRoleDeleteRequest{Role: role}, &pb.AuthRoleDeleteResponse{})
	s.after = func(a, _ *outcome) {
		if a.code == 0 {
			delete(g.granted, role)
		}
	}
	return s
}

func (g *gen) authenticate(name, password string) step {
	s := g.rpcAs("", authService+"Authenticate", &pb.AuthenticateRequest{Name: name, Password: password}, &pb.AuthenticateResponse{})
	s.after = func(a, b *outcome) {
		for i, o := range []*outcome{a, b} {
			if len(o.messages) == 1 {
				g.targets[i].tokens[name] = o.messages[0].(*pb.AuthenticateResponse).Token
			}
		}
	}
	return s
}

// With auth on in all episodes: mostly somebody who may.
func (g *gen) someUser() string {
	return pickOf(g, "root", "root", "root", "root", "root", "root", "root", "bob", "bob", "alice", "", "stranger")
}

// Users and roles so that requests by others than root succeed and fail. As `user`, where auth is on already.
func (g *gen) authBegin(user string) []step {
	g.user = user
	defer func() { g.user = "" }()
	steps := []step{
		g.auth("UserDelete", &pb.AuthUserDeleteRequest{Name: "root"}, &pb.AuthUserDeleteResponse{}),
		g.auth("AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}), // there is no root
		g.auth("UserAdd", &pb.AuthUserAddRequest{Name: "root", Password: "pw"}, &pb.AuthUserAddResponse{}),
		g.auth("AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}), // root has no role
		g.auth("RoleAdd", &pb.AuthRoleAddRequest{Name: "root"}, &pb.AuthRoleAddResponse{}),
		g.auth("UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}, &pb.AuthUserGrantRoleResponse{}),
		g.auth("Authenticate", &pb.AuthenticateRequest{Name: "root", Password: "pw"}, &pb.AuthenticateResponse{}), // not enabled
	}
	for _, name := range []string{"alice", "bob"} {
		steps = append(steps, g.auth("UserAdd", &pb.AuthUserAddRequest{Name: name, Password: "pw"}, &pb.AuthUserAddResponse{}),
			g.auth("UserChangePassword", &pb.AuthUserChangePasswordRequest{Name: name, Password: "pw"}, &pb.AuthUserChangePasswordResponse{}))
	}
	for role, kind := range map[string]authpb.Permission_Type{"reader": authpb.READ} {
		steps = append(steps, g.auth("RoleAdd", &pb.AuthRoleAddRequest{Name: role}, &pb.AuthRoleAddResponse{}),
			g.grantPermission(role, &authpb.Permission{PermType: kind, Key: []byte("a"), RangeEnd: []byte("k")}),
			g.auth("UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "alice", Role: role}, &pb.AuthUserGrantRoleResponse{}))
	}
	steps = append(steps,
		g.auth("RoleAdd", &pb.AuthRoleAddRequest{Name: "both"}, &pb.AuthRoleAddResponse{}),
		g.grantPermission("both", &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("a"), RangeEnd: []byte{0}}),
		g.auth("UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "bob", Role: "both"}, &pb.AuthUserGrantRoleResponse{}),
		g.auth("AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}),
		g.auth("AuthEnable", &pb.AuthEnableRequest{}, &pb.AuthEnableResponse{}),
		g.authenticate("root", "wrong"), g.authenticate("nobody", "pw"), g.authenticate("", ""),
		g.authenticate("root", "pw"), g.authenticate("alice", "pw"), g.authenticate("bob", "pw"))
	return steps
}

// With auth on: requests of every kind by users who may and may not, and now and then a change of who may.
func (g *gen) authOnStep() step {
	g.user = pickOf(g, "root", "root", "alice", "alice", "bob", "bob", "bob", "", "stranger")
	defer func() { g.user = "" }()
	switch choice := g.random.Intn(100); {
	case choice < 60:
		return g.kvStep()
	case choice < 70:
		return g.leaseStep()
	case choice < 90:
		return g.authStep()
	case choice < 95:
		return g.clusterStep()
	case choice == 95 && g.oneIn(4):
		return g.watchStep()
	}
	// A token of an older auth revision is refused where the server asks for the newest: they are renewed often.
	return g.authenticate(pickOf(g, "root", "alice", "bob", "nopw", "carol"), pickOf(g, "pw", "pw", "pw", "wrong", ""))
}

func (g *gen) authEnd() []step {
	g.user = "root"
	defer func() { g.user = "" }()
	return []step{
		g.authenticate("root", "pw"),
		g.auth("AuthDisable", &pb.AuthDisableRequest{}, &pb.AuthDisableResponse{}),
		g.rpcAs("", authService+"AuthDisable", &pb.AuthDisableRequest{}, &pb.AuthDisableResponse{}),
		g.rpcAs("", authService+"AuthStatus", &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{}),
	}
}
