package main

import (
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
		return g.auth("RoleDelete", &pb.AuthRoleDeleteRequest{Role: name}, &pb.AuthRoleDeleteResponse{})
	case 12, 13:
		request := &pb.AuthRoleGrantPermissionRequest{Name: g.roleName()}
		if !g.oneIn(12) {
			request.Perm = &authpb.Permission{PermType: authpb.Permission_Type(g.random.Intn(3))}
			request.Perm.Key, request.Perm.RangeEnd = g.keyRange()
		}
		return g.auth("RoleGrantPermission", request, &pb.AuthRoleGrantPermissionResponse{})
	case 14:
		request := &pb.AuthRoleRevokePermissionRequest{Role: g.roleName()}
		request.Key, request.RangeEnd = g.keyRange()
		return g.auth("RoleRevokePermission", request, &pb.AuthRoleRevokePermissionResponse{})
	}
	return g.auth("AuthStatus", &pb.AuthStatusRequest{}, &pb.AuthStatusResponse{})
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

// Users and roles so that requests by others than root succeed and fail.
func (g *gen) authBegin() []step {
	g.user = ""
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
			g.auth("RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: role,
				Perm: &authpb.Permission{PermType: kind, Key: []byte("a"), RangeEnd: []byte("k")}}, &pb.AuthRoleGrantPermissionResponse{}),
			g.auth("UserGrantRole", &pb.AuthUserGrantRoleRequest{User: "alice", Role: role}, &pb.AuthUserGrantRoleResponse{}))
	}
	steps = append(steps,
		g.auth("RoleAdd", &pb.AuthRoleAddRequest{Name: "both"}, &pb.AuthRoleAddResponse{}),
		g.auth("RoleGrantPermission", &pb.AuthRoleGrantPermissionRequest{Name: "both",
			Perm: &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("a"), RangeEnd: []byte{0}}}, &pb.AuthRoleGrantPermissionResponse{}),
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
