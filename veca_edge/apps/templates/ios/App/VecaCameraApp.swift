import SwiftUI

@main
struct VecaCameraApp: App {
    var body: some Scene {
        WindowGroup { CameraScreen() }
    }
}
